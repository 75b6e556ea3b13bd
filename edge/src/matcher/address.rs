//! Ranges of addresses.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::xds::core::v3::CidrRange as XdsCidrRange;
use ipnet::IpNet;

use crate::problem::{Path, Problem};

/// The addresses of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr(IpNet);

impl Cidr {
    pub(crate) fn compile(config: &CidrRange, at: &Path<'_>) -> Result<Self, Problem> {
        Self::new(&config.address_prefix, config.prefix_len.as_ref().map_or(0, |len| len.value), at)
    }

    pub(crate) fn compile_xds(config: &XdsCidrRange, at: &Path<'_>) -> Result<Self, Problem> {
        Self::new(&config.address_prefix, config.prefix_len.as_ref().map_or(0, |len| len.value), at)
    }

    pub(crate) fn compile_all(config: &[CidrRange], at: &Path<'_>) -> Result<Vec<Self>, Problem> {
        config.iter().enumerate().map(|(index, range)| Self::compile(range, &at.index(index))).collect()
    }

    fn new(prefix: &str, len: u32, at: &Path<'_>) -> Result<Self, Problem> {
        let address: IpAddr = prefix
            .parse()
            .map_err(|_| at.field("address_prefix").problem(format!("'{prefix}' is no IP address")))?;
        u8::try_from(len)
            .ok()
            .and_then(|len| IpNet::new(address, len).ok())
            .map(Self)
            .ok_or_else(|| at.field("prefix_len").problem("is longer than the address"))
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// How many bits of an address decide.
    pub(crate) fn length(self) -> u8 {
        self.0.prefix_len()
    }
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
            let cidr = Cidr::compile(&range, &Path::root()).unwrap();
            assert_eq!(cidr.contains(address.parse().unwrap()), expected, "{prefix}/{len} {address}");
            assert_eq!(u32::from(cidr.length()), len);
        }
        let bad =
            CidrRange { address_prefix: "10.0.0.0".into(), prefix_len: Some(UInt32Value { value: 33 }) };
        let problem = Cidr::compile_all(&[bad], &Path::root().field("ranges")).unwrap_err();
        assert_eq!(problem.path, "ranges[0].prefix_len");
    }
}
