//! Ranges of addresses.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::r#type::matcher::v3::AddressMatcher;
use ipnet::IpNet;

use super::each;
use crate::problem::{Path, Problem};

/// The addresses of some networks, or of all others.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    networks: Vec<IpNet>,
    invert: bool,
}

impl Networks {
    pub(crate) fn compile(config: &[CidrRange], at: &Path<'_>, field: &str) -> Result<Self, Problem> {
        let networks = each(config, at, field, |range, at| {
            network(&range.address_prefix, range.prefix_len.as_ref().map(|len| len.value), at)
        })?;
        Ok(Self { networks, invert: false })
    }

    pub(crate) fn compile_matcher(config: &AddressMatcher, at: &Path<'_>) -> Result<Self, Problem> {
        let networks = each(&config.ranges, at, "ranges", |range, at| {
            network(&range.address_prefix, range.prefix_len.as_ref().map(|len| len.value), at)
        })?;
        Ok(Self { networks, invert: config.invert_match })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address)) != self.invert
    }
}

fn network(prefix: &str, len: Option<u32>, at: &Path<'_>) -> Result<IpNet, Problem> {
    let address: IpAddr = prefix
        .parse()
        .map_err(|_| at.field("address_prefix").problem(format!("'{prefix}' is no IP address")))?;
    u8::try_from(len.unwrap_or_default())
        .ok()
        .and_then(|len| IpNet::new(address, len).ok())
        .ok_or_else(|| at.field("prefix_len").problem("is longer than the address"))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::UInt32Value;

    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        for (prefix, len, address, expected) in [
            ("10.0.0.0", 8, "10.1.2.3", true),
            ("10.0.0.0", 8, "11.1.2.3", false),
            ("10.1.2.3", 0, "8.8.8.8", true),
            ("::1", 128, "::1", true),
            ("::1", 128, "127.0.0.1", false),
        ] {
            let range =
                CidrRange { address_prefix: prefix.into(), prefix_len: Some(UInt32Value { value: len }) };
            let networks = Networks::compile(&[range], &Path::root(), "ranges").unwrap();
            assert_eq!(networks.contains(address.parse().unwrap()), expected, "{prefix}/{len} {address}");
        }
        let bad =
            CidrRange { address_prefix: "10.0.0.0".into(), prefix_len: Some(UInt32Value { value: 33 }) };
        let problem = Networks::compile(&[bad], &Path::root(), "ranges").unwrap_err();
        assert_eq!(problem.path, "ranges[0].prefix_len");
    }
}
