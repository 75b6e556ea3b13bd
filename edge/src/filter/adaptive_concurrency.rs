//! Refuses calls above a limit that follows how long calls take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::extensions::filters::http::adaptive_concurrency::v3 as pb;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::Any;
use http::StatusCode;
use pb::adaptive_concurrency::ConcurrencyControllerConfig;
use pb::{AdaptiveConcurrency as Config, GradientControllerConfig};

use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::gradient::{Gradient, MinRtt, Permit, Settings};
use crate::filter::{Context, Filter, Flow};
use crate::flag::Flag;
use crate::problem::{Path, Problem};
use crate::reply::LocalReply;
use crate::value;

const REFUSED: &str = "reached concurrency limit";
const DETAILS: &str = "reached_concurrency_limit";

#[derive(Debug)]
struct AdaptiveConcurrency {
    enabled: bool,
    status: StatusCode,
    gradient: Arc<Gradient>,
}

/// What a call that was let through keeps.
#[derive(Clone)]
struct Admitted(Arc<Permit>);

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let config: Config = unpack(config, at)?;
    let Some(ConcurrencyControllerConfig::GradientControllerConfig(controller)) =
        &config.concurrency_controller_config
    else {
        return Err(at.problem("needs gradient_controller_config"));
    };
    let settings = settings(controller, &at.field("gradient_controller_config"))?;
    let status = config.concurrency_limit_exceeded_status.map(|status| status.code);
    let status =
        status.and_then(|code| u16::try_from(code).ok()).and_then(|code| StatusCode::from_u16(code).ok());
    let enabled = config.enabled.and_then(|enabled| enabled.default_value);
    Ok(Arc::new(AdaptiveConcurrency {
        enabled: value::flag(enabled.as_ref(), true),
        status: status.filter(|status| status.as_u16() >= 400).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        gradient: Arc::new(Gradient::new(
            settings,
            &context.stats.scope("adaptive_concurrency"),
            Instant::now(),
        )),
    }))
}

fn settings(config: &GradientControllerConfig, at: &Path<'_>) -> Result<Settings, Problem> {
    let limits = config.concurrency_limit_params.clone().unwrap_or_default();
    let min_rtt = config.min_rtt_calc_params.clone().unwrap_or_default();
    let share =
        |percent: Option<&Percent>, default: f64| percent.map_or(default, |percent| percent.value) / 100.0;
    let min_concurrency = value::number(min_rtt.min_concurrency.as_ref(), 3);
    let measured = value::limit(min_rtt.interval.as_ref(), None).map(|interval| MinRtt::Measured {
        interval,
        jitter: share(min_rtt.jitter.as_ref(), 15.0),
        request_count: value::number(min_rtt.request_count.as_ref(), 50) as usize,
        min_concurrency,
    });
    let fixed = min_rtt.fixed_value.as_ref().map(|fixed| MinRtt::Fixed(value::duration(fixed)));
    let min_rtt_at = at.field("min_rtt_calc_params");
    Ok(Settings {
        sample_aggregate_percentile: share(config.sample_aggregate_percentile.as_ref(), 50.0).min(1.0),
        max_concurrency_limit: value::number(limits.max_concurrency_limit.as_ref(), 1000),
        min_concurrency_limit: value::number(limits.min_concurrency_limit.as_ref(), min_concurrency),
        concurrency_update_interval: limits
            .concurrency_update_interval
            .as_ref()
            .map_or(Duration::ZERO, value::duration),
        min_rtt: measured
            .or(fixed)
            .ok_or_else(|| min_rtt_at.problem("needs one of interval, fixed_value"))?,
        buffer: share(min_rtt.buffer.as_ref(), 25.0),
    })
}

impl Filter for AdaptiveConcurrency {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        if !self.enabled {
            return Flow::Continue;
        }
        let Some(permit) = self.gradient.admit(1.0, Instant::now()) else {
            return Flow::Reply(LocalReply::new(self.status, REFUSED, DETAILS));
        };
        call.kept.insert(Admitted(Arc::new(permit)));
        Flow::Continue
    }

    fn ended(&self, call: &mut Call) {
        let gone = [Flag::DownstreamConnectionTermination, Flag::DownstreamRemoteReset];
        if let Some(Admitted(permit)) = call.kept.remove::<Admitted>()
            && !gone.iter().any(|flag| call.flags.contains(*flag))
        {
            permit.sample(Instant::now());
        }
    }
}
