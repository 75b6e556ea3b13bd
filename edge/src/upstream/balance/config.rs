//! Reads which load balancing policy a cluster asks for, in either of its two forms.

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use envoy_types::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy};
use envoy_types::pb::envoy::config::core::v3::RuntimeDouble;
use envoy_types::pb::envoy::extensions::load_balancing_policies as policies;
use envoy_types::pb::google::protobuf::{Any, UInt64Value};

use super::Policy;
use crate::bootstrap::{type_name, unpack};
use crate::problem::{Path, Problem};
use crate::upstream::read::refuse;
use crate::value::number;

const MAGLEV_SIZE: u64 = 65_537;
const LARGEST_MAGLEV: u64 = 5_000_011;
const LARGEST_RING: u64 = 8 * 1024 * 1024;
const LEAST_REQUEST: Policy = Policy::LeastRequest { choices: 2, bias: 1.0 };

/// The policy of a cluster.
pub(in crate::upstream) fn policy(config: &ClusterConfig, at: &Path<'_>) -> Result<Policy, Problem> {
    let by_hostname = common(config, &at.field("common_lb_config"))?;
    if let Some(policy) = &config.load_balancing_policy {
        return typed(policy, &at.field("load_balancing_policy"));
    }
    let unsupported = |name| at.field(name).problem("is not supported");
    match (LbPolicy::try_from(config.lb_policy), &config.lb_config) {
        (Ok(LbPolicy::RoundRobin), None) => Ok(Policy::RoundRobin),
        (Ok(LbPolicy::RoundRobin), Some(LbConfig::RoundRobinLbConfig(config))) => {
            refuse!(config, at.field("round_robin_lb_config"), slow_start_config);
            Ok(Policy::RoundRobin)
        }
        (Ok(LbPolicy::LeastRequest), None) => Ok(LEAST_REQUEST),
        (Ok(LbPolicy::LeastRequest), Some(LbConfig::LeastRequestLbConfig(config))) => {
            let at = at.field("least_request_lb_config");
            refuse!(config, at, slow_start_config);
            let choices = number(config.choice_count.as_ref(), 2);
            least_request(choices, config.active_request_bias.as_ref(), &at)
        }
        (Ok(LbPolicy::RingHash), None) => ring(None, None, by_hostname, at),
        (Ok(LbPolicy::RingHash), Some(LbConfig::RingHashLbConfig(config))) => {
            let at = at.field("ring_hash_lb_config");
            // Zero is XX_HASH.
            refuse!(config, at, hash_function);
            ring(config.minimum_ring_size, config.maximum_ring_size, by_hostname, &at)
        }
        (Ok(LbPolicy::Maglev), None) => maglev(None, by_hostname, at),
        (Ok(LbPolicy::Maglev), Some(LbConfig::MaglevLbConfig(config))) => {
            maglev(config.table_size, by_hostname, &at.field("maglev_lb_config"))
        }
        (Ok(LbPolicy::Random), None) => Ok(Policy::Random),
        (Ok(LbPolicy::LoadBalancingPolicyConfig), _) => {
            Err(at.field("load_balancing_policy").problem("is missing"))
        }
        (_, None) => Err(unsupported("lb_policy")),
        (_, Some(_)) => {
            Err(at.field("lb_policy").problem("does not go with the policy that is configured beside it"))
        }
    }
}

/// The part that all policies share; whether consistent hashing goes by names.
fn common(config: &ClusterConfig, at: &Path<'_>) -> Result<bool, Problem> {
    let Some(config) = &config.common_lb_config else { return Ok(false) };
    refuse!(
        config,
        at,
        ignore_new_hosts_until_first_hc,
        close_connections_on_host_set_change,
        override_host_status,
    );
    if let Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) = &config.locality_config_specifier {
        return Err(at.field("locality_weighted_lb_config").problem("is not supported: remove it"));
    }
    let Some(hashing) = &config.consistent_hashing_lb_config else { return Ok(false) };
    refuse!(hashing, at.field("consistent_hashing_lb_config"), hash_balance_factor);
    Ok(hashing.use_hostname_for_hashing)
}

/// The first policy of the list that is known, as Envoy takes it.
fn typed(config: &LoadBalancingPolicy, at: &Path<'_>) -> Result<Policy, Problem> {
    let at = at.field("policies");
    for (index, policy) in config.policies.iter().enumerate() {
        let at = at.index(index);
        let at = at.field("typed_extension_config");
        let extension = policy.typed_extension_config.as_ref().ok_or_else(|| at.problem("is missing"))?;
        let at = at.field("typed_config");
        let any = extension.typed_config.as_ref().ok_or_else(|| at.problem("is missing"))?;
        if let Some(policy) = known(any, &at)? {
            return Ok(policy);
        }
    }
    Err(at.problem(
        "name round_robin, least_request, ring_hash, maglev or random: no other policy is supported",
    ))
}

fn known(any: &Any, at: &Path<'_>) -> Result<Option<Policy>, Problem> {
    let name = type_name(&any.type_url);
    let Some(name) = name.strip_prefix("envoy.extensions.load_balancing_policies.") else { return Ok(None) };
    Ok(Some(match name {
        "round_robin.v3.RoundRobin" => {
            let config: policies::round_robin::v3::RoundRobin = unpack(any, at)?;
            refuse!(config, at, slow_start_config, locality_lb_config);
            Policy::RoundRobin
        }
        "least_request.v3.LeastRequest" => {
            let config: policies::least_request::v3::LeastRequest = unpack(any, at)?;
            refuse!(config, at, slow_start_config, locality_lb_config, enable_full_scan, selection_method);
            let choices = number(config.choice_count.as_ref(), 2);
            least_request(choices, config.active_request_bias.as_ref(), at)?
        }
        "ring_hash.v3.RingHash" => {
            use policies::ring_hash::v3::ring_hash::HashFunction;
            let config: policies::ring_hash::v3::RingHash = unpack(any, at)?;
            refuse!(config, at, hash_balance_factor, locality_weighted_lb_config);
            if config.hash_function() == HashFunction::MurmurHash2 {
                return Err(at.field("hash_function").problem("is not supported: use XX_HASH"));
            }
            let mut by_hostname = config.use_hostname_for_hashing;
            if let Some(hashing) = &config.consistent_hashing_lb_config {
                refuse!(hashing, at.field("consistent_hashing_lb_config"), hash_balance_factor, hash_policy);
                by_hostname = hashing.use_hostname_for_hashing;
            }
            ring(config.minimum_ring_size, config.maximum_ring_size, by_hostname, at)?
        }
        "maglev.v3.Maglev" => {
            let config: policies::maglev::v3::Maglev = unpack(any, at)?;
            refuse!(config, at, locality_weighted_lb_config);
            let hashing = config.consistent_hashing_lb_config.unwrap_or_default();
            refuse!(hashing, at.field("consistent_hashing_lb_config"), hash_balance_factor, hash_policy);
            maglev(config.table_size, hashing.use_hostname_for_hashing, at)?
        }
        "random.v3.Random" => {
            let config: policies::random::v3::Random = unpack(any, at)?;
            refuse!(config, at, locality_lb_config);
            Policy::Random
        }
        _ => return Ok(None),
    }))
}

fn least_request(choices: u32, bias: Option<&RuntimeDouble>, at: &Path<'_>) -> Result<Policy, Problem> {
    if choices < 2 {
        return Err(at.field("choice_count").problem("must be at least 2"));
    }
    Ok(Policy::LeastRequest { choices, bias: bias.map_or(1.0, |bias| bias.default_value) })
}

fn ring(
    min: Option<UInt64Value>,
    max: Option<UInt64Value>,
    by_hostname: bool,
    at: &Path<'_>,
) -> Result<Policy, Problem> {
    let (min, max) = (min.map_or(1024, |min| min.value), max.map_or(LARGEST_RING, |max| max.value));
    if max > LARGEST_RING || min > max {
        return Err(at
            .field("minimum_ring_size")
            .problem("must be at most maximum_ring_size, and that 8388608"));
    }
    Ok(Policy::RingHash { min, max, by_hostname })
}

fn maglev(size: Option<UInt64Value>, by_hostname: bool, at: &Path<'_>) -> Result<Policy, Problem> {
    let size = size.map_or(MAGLEV_SIZE, |size| size.value);
    let prime =
        size >= 2 && (2..).take_while(|factor| factor * factor <= size).all(|factor| size % factor != 0);
    if !prime || size > LARGEST_MAGLEV {
        return Err(at.field("table_size").problem("must be a prime number of at most 5000011"));
    }
    Ok(Policy::Maglev { size, by_hostname })
}
