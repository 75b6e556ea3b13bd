//! Which calls an access log tells of.

use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use pb::ComparisonFilter;
use pb::access_log_filter::FilterSpecifier;
use pb::comparison_filter::Op;

use crate::call::Call;
use crate::flag::{Flag, Flags};
use crate::matcher::{Fraction, HeaderMatcher, each};
use crate::problem::{Path, Problem};
use crate::reply::grpc_status_of;

#[derive(Debug)]
pub(crate) enum Filter {
    Status(Comparison),
    /// Milliseconds.
    Duration(Comparison),
    NotHealthCheck,
    Sample(Fraction),
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Header(HeaderMatcher),
    /// Without flags: any flag.
    Flags(Option<Flags>),
    GrpcStatus {
        statuses: Vec<i32>,
        exclude: bool,
    },
}

impl Filter {
    pub(crate) fn compile(config: &pb::AccessLogFilter, at: &Path<'_>) -> Result<Self, Problem> {
        let unsupported = |field| Err(at.field(field).problem("is not supported: remove it"));
        let missing = || at.problem("a filter says one thing, such as status_code_filter");
        Ok(match config.filter_specifier.as_ref().ok_or_else(missing)? {
            FilterSpecifier::StatusCodeFilter(filter) => Self::Status(Comparison::compile(
                filter.comparison.as_ref(),
                &at.field("status_code_filter"),
            )?),
            FilterSpecifier::DurationFilter(filter) => {
                Self::Duration(Comparison::compile(filter.comparison.as_ref(), &at.field("duration_filter"))?)
            }
            FilterSpecifier::NotHealthCheckFilter(_) => Self::NotHealthCheck,
            FilterSpecifier::RuntimeFilter(filter) => {
                Self::Sample(Fraction::compile(filter.percent_sampled.as_ref()))
            }
            FilterSpecifier::AndFilter(all) => {
                Self::All(each(&all.filters, &at.field("and_filter"), "filters", Self::compile)?)
            }
            FilterSpecifier::OrFilter(any) => {
                Self::Any(each(&any.filters, &at.field("or_filter"), "filters", Self::compile)?)
            }
            FilterSpecifier::HeaderFilter(filter) => {
                let at = at.field("header_filter");
                let header = filter.header.as_ref().ok_or_else(|| at.field("header").problem("missing"))?;
                Self::Header(HeaderMatcher::compile(header, &at.field("header"))?)
            }
            FilterSpecifier::ResponseFlagFilter(filter) => {
                // Flags of Envoy's that no call of ours has match none.
                let flags = filter.flags.iter().filter_map(|flag| Flag::parse(flag)).collect();
                Self::Flags((!filter.flags.is_empty()).then_some(flags))
            }
            FilterSpecifier::GrpcStatusFilter(filter) => {
                Self::GrpcStatus { statuses: filter.statuses.clone(), exclude: filter.exclude }
            }
            FilterSpecifier::TraceableFilter(_) => return unsupported("traceable_filter"),
            FilterSpecifier::ExtensionFilter(_) => return unsupported("extension_filter"),
            FilterSpecifier::MetadataFilter(_) => return unsupported("metadata_filter"),
            FilterSpecifier::LogTypeFilter(_) => return unsupported("log_type_filter"),
        })
    }

    /// Whether the log tells of a call that has ended.
    pub(crate) fn takes(&self, call: &Call) -> bool {
        let status = call.ended.status;
        match self {
            Self::Status(comparison) => comparison.holds(status.map_or(0, |status| status.as_u16().into())),
            Self::Duration(comparison) => comparison.holds(call.ended.duration.as_millis()),
            Self::NotHealthCheck => !call.details.starts_with("health_check_"),
            Self::Sample(fraction) => fraction.takes(call.random),
            Self::All(filters) => filters.iter().all(|filter| filter.takes(call)),
            Self::Any(filters) => filters.iter().any(|filter| filter.takes(call)),
            Self::Header(header) => header.matches(&call.request),
            Self::Flags(None) => call.flags != Flags::default(),
            Self::Flags(Some(flags)) => call.flags.intersects(flags),
            Self::GrpcStatus { statuses, exclude } => {
                let of_http = || status.map_or(2, grpc_status_of);
                statuses.contains(&call.ended.grpc_status.unwrap_or_else(of_http)) != *exclude
            }
        }
    }
}

/// A number compared with another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    op: Op,
    value: u128,
}

impl Comparison {
    fn compile(config: Option<&ComparisonFilter>, at: &Path<'_>) -> Result<Self, Problem> {
        let at = at.field("comparison");
        let config = config.ok_or_else(|| at.problem("missing"))?;
        let value = config.value.as_ref().ok_or_else(|| at.field("value").problem("missing"))?;
        Ok(Self { op: config.op(), value: value.default_value.into() })
    }

    fn holds(self, number: u128) -> bool {
        match self.op {
            Op::Eq => number == self.value,
            Op::Ge => number >= self.value,
            Op::Le => number <= self.value,
            Op::Ne => number != self.value,
        }
    }
}
