//! Zips replies for clients that take it.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::compression::gzip::compressor::v3::Gzip;
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3::compressor::ResponseDirectionConfig;
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3::compressor_per_route::Override;
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3::{
    Compressor as Config, CompressorPerRoute,
};
use envoy_types::pb::google::protobuf::Any;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::body::Transform;
use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::head::joined;
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply, is_grpc};
use crate::stats::{Counter, Scope};
use crate::value;

const CONTENT_TYPES: [&str; 8] = [
    "application/javascript",
    "application/json",
    "application/xhtml+xml",
    "image/svg+xml",
    "text/css",
    "text/html",
    "text/plain",
    "text/xml",
];
const MIN_CONTENT_LENGTH: u32 = 30;

/// Zips what is long enough, of a type that shrinks, and not marked as to be left alone.
#[derive(Clone, Debug)]
pub(crate) struct Compressor {
    enabled: bool,
    level: Compression,
    min_length: u64,
    content_types: Vec<String>,
    not_with_etag: bool,
    remove_accept_encoding: bool,
    uncompressible: Vec<u32>,
    stats: Stats,
}

#[derive(Clone, Debug)]
struct Stats {
    compressed: Counter,
    not_compressed: Counter,
    too_short: Counter,
    with_etag: Counter,
    no_header: Counter,
    identity: Counter,
    wildcard: Counter,
    used: Counter,
    not_valid: Counter,
    bytes_before: Counter,
    bytes_after: Counter,
}

/// What the client said that it takes, before anybody changed it.
#[derive(Clone)]
struct Accepted(Option<Vec<u8>>);

/// What `accept-encoding` means for gzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Gzip,
    Wildcard,
    Identity,
    Nothing,
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    Ok(Arc::new(Compressor::compile(&unpack(config, at)?, at, context.stats)?))
}

impl Filter for Compressor {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        if self.enabled && call.kept.get::<Accepted>().is_none() {
            let accepted = joined(&call.request.headers, ACCEPT_ENCODING).map(|value| value.into_owned());
            call.kept.insert(Accepted(accepted));
        }
        if self.enabled && self.remove_accept_encoding {
            call.request.headers.remove(ACCEPT_ENCODING);
        }
        Flow::Continue
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        let accepted = call.kept.get::<Accepted>();
        let compressible = self.enabled && !call.is_grpc() && self.compresses(reply.status, &reply.headers);
        let wanted = accepted.is_some_and(|Accepted(accepted)| self.stats.wants(accepted.as_deref()));
        if compressible && wanted && !http_body::Body::is_end_stream(&reply.body) {
            self.stats.compressed.inc();
            let headers = &mut reply.headers;
            // The bytes are others: only a weak tag still holds.
            if !headers.get(ETAG).is_some_and(|tag| tag.as_bytes().starts_with(b"W/")) {
                headers.remove(ETAG);
            }
            headers.remove(CONTENT_LENGTH);
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            let encoder = GzEncoder::new(Vec::new(), self.level);
            reply.body.push(Box::new(Zip { encoder, stats: self.stats.clone() }));
        } else {
            self.stats.not_compressed.inc();
        }
        if compressible {
            vary(&mut reply.headers);
        }
    }

    fn on_route(&self, config: &Any, at: &Path<'_>, _: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
        let config: CompressorPerRoute = unpack(config, at)?;
        let mut filter = self.clone();
        match config.r#override {
            Some(Override::Disabled(_)) => filter.enabled = false,
            Some(Override::Overrides(overrides)) => {
                let at = at.field("overrides");
                if overrides.compressor_library.is_some() {
                    return Err(at.field("compressor_library").problem("is not supported on a route"));
                }
                let remove = overrides
                    .response_direction_config
                    .and_then(|config| config.remove_accept_encoding_header);
                filter.remove_accept_encoding = value::flag(remove.as_ref(), self.remove_accept_encoding);
            }
            None => return Err(at.problem("needs one of disabled, overrides")),
        }
        Ok(Arc::new(filter))
    }
}

impl Compressor {
    fn compile(config: &Config, at: &Path<'_>, stats: &Scope) -> Result<Self, Problem> {
        if config.request_direction_config.is_some() {
            return Err(at
                .field("request_direction_config")
                .problem("is not supported: only replies are zipped"));
        }
        let at_library = at.field("compressor_library");
        let library = config.compressor_library.as_ref().ok_or_else(|| at_library.problem("is required"))?;
        let at_gzip = at_library.field("typed_config");
        let gzip = library.typed_config.as_ref().ok_or_else(|| at_gzip.problem("is required"))?;
        let gzip: Gzip = unpack(gzip, &at_gzip)?;
        let stats = stats.scope(&format!("compressor.{}.gzip", library.name));
        let response = response_config(config);
        let at_response = at.field("response_direction_config");
        for (field, set) in [
            ("weaken_etag_on_compress", response.weaken_etag_on_compress),
            ("status_header_enabled", response.status_header_enabled),
        ] {
            if set {
                return Err(at_response.field(field).problem("is not supported: remove it"));
            }
        }
        let common = response.common_config.unwrap_or_default();
        if !common.content_type_matcher.is_empty() {
            let at = at_response.field("common_config");
            return Err(at.field("content_type_matcher").problem("is not supported: use content_type"));
        }
        #[expect(deprecated, reason = "most files have the old form")]
        let types = common.content_type;
        let level = u32::try_from(gzip.compression_level).unwrap_or_default();
        Ok(Self {
            enabled: value::flag(common.enabled.and_then(|enabled| enabled.default_value).as_ref(), true),
            level: if level == 0 { Compression::default() } else { Compression::new(level) },
            min_length: value::number(common.min_content_length.as_ref(), MIN_CONTENT_LENGTH).into(),
            content_types: if types.is_empty() { CONTENT_TYPES.map(str::to_owned).into() } else { types },
            not_with_etag: response.disable_on_etag_header,
            remove_accept_encoding: response.remove_accept_encoding_header,
            uncompressible: response.uncompressible_response_codes,
            stats: Stats::new(&match config.response_direction_config {
                Some(_) => stats.scope("response"),
                None => stats,
            }),
        })
    }

    /// Whether a reply is one to be zipped, whoever takes it.
    fn compresses(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length < self.min_length) {
            self.stats.too_short.inc();
            return false;
        }
        if self.not_with_etag && headers.contains_key(ETAG) {
            self.stats.with_etag.inc();
            return false;
        }
        let media_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
        let media_type = media_type.and_then(|value| value.split(|&byte| byte == b';').next());
        let media_type = media_type.map(<[u8]>::trim_ascii);
        let of_type = media_type.is_none_or(|found| {
            self.content_types.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(found))
        });
        of_type
            && !is_grpc(headers)
            && !headers.contains_key(CONTENT_ENCODING)
            && !headers.contains_key(UPGRADE)
            && !self.uncompressible.contains(&status.as_u16().into())
            && !has_token(headers.get(CACHE_CONTROL), "no-transform")
    }
}

/// The direction's configuration, or what the deprecated fields beside it say.
#[expect(deprecated, reason = "most files have the old form")]
fn response_config(config: &Config) -> ResponseDirectionConfig {
    let mut response = config.response_direction_config.clone().unwrap_or_default();
    if config.response_direction_config.is_none() {
        let common = response.common_config.get_or_insert_default();
        common.enabled.clone_from(&config.runtime_enabled);
        common.min_content_length = config.content_length;
        common.content_type.clone_from(&config.content_type);
        response.disable_on_etag_header = config.disable_on_etag_header;
        response.remove_accept_encoding_header = config.remove_accept_encoding_header;
    }
    response
}

/// What the client likes best of gzip and no encoding at all.
fn choose(accepted: &str) -> Choice {
    let mut best = (Choice::Nothing, 0.0);
    let mut gzip_named = false;
    for range in accepted.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight = weight.map_or(Some(1.0), |weight| weight.parse::<f32>().ok()).unwrap_or(0.0);
        let choice = match name {
            "gzip" => Choice::Gzip,
            "identity" => Choice::Identity,
            "*" => Choice::Wildcard,
            _ => continue,
        };
        gzip_named |= choice == Choice::Gzip;
        let better = match best.0 {
            Choice::Identity if choice == Choice::Gzip => weight >= best.1,
            _ => weight > best.1,
        };
        if better {
            best = (choice, weight);
        }
    }
    // What is named is not meant by the star.
    if best.0 == Choice::Wildcard && gzip_named { Choice::Nothing } else { best.0 }
}

/// Tells caches that the reply depends on what the client takes.
fn vary(headers: &mut HeaderMap) {
    if headers.get_all(VARY).iter().any(|value| has_token(Some(value), "accept-encoding")) {
        return;
    }
    let value = match joined(headers, VARY) {
        Some(value) => [&value[..], b", Accept-Encoding"].concat(),
        None => b"Accept-Encoding".to_vec(),
    };
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(VARY, value);
    }
}

fn has_token(value: Option<&HeaderValue>, token: &str) -> bool {
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(',').any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// A body as it is zipped: what has come goes on at once.
struct Zip {
    encoder: GzEncoder<Vec<u8>>,
    stats: Stats,
}

impl Zip {
    fn take(&mut self) -> Bytes {
        let zipped = std::mem::take(self.encoder.get_mut());
        self.stats.bytes_after.add(zipped.len() as u64);
        zipped.into()
    }
}

fn failed(_: std::io::Error) -> LocalReply {
    LocalReply::new(StatusCode::INTERNAL_SERVER_ERROR, "the reply cannot be compressed", "compressor_failed")
}

impl Transform for Zip {
    fn data(&mut self, data: Bytes) -> Result<Bytes, LocalReply> {
        self.stats.bytes_before.add(data.len() as u64);
        self.encoder.write_all(&data).and_then(|()| self.encoder.flush()).map_err(failed)?;
        Ok(self.take())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(Bytes, Option<HeaderMap>), LocalReply> {
        self.encoder.try_finish().map_err(failed)?;
        Ok((self.take(), trailers))
    }
}

impl Stats {
    fn new(scope: &Scope) -> Self {
        Self {
            compressed: scope.counter("compressed"),
            not_compressed: scope.counter("not_compressed"),
            too_short: scope.counter("content_length_too_small"),
            with_etag: scope.counter("not_compressed_etag"),
            no_header: scope.counter("no_accept_header"),
            identity: scope.counter("header_identity"),
            wildcard: scope.counter("header_wildcard"),
            used: scope.counter("header_compressor_used"),
            not_valid: scope.counter("header_not_valid"),
            bytes_before: scope.counter("total_uncompressed_bytes"),
            bytes_after: scope.counter("total_compressed_bytes"),
        }
    }

    /// Whether the client wants its reply zipped.
    fn wants(&self, accepted: Option<&[u8]>) -> bool {
        let Some(accepted) = accepted else {
            self.no_header.inc();
            return false;
        };
        let choice = choose(&String::from_utf8_lossy(accepted));
        match choice {
            Choice::Gzip => self.used.inc(),
            Choice::Wildcard => self.wildcard.inc(),
            Choice::Identity => self.identity.inc(),
            Choice::Nothing => self.not_valid.inc(),
        }
        matches!(choice, Choice::Gzip | Choice::Wildcard)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
    use envoy_types::pb::google::protobuf::UInt32Value;
    use prost::Name;

    use super::*;

    fn compressor(config: Config) -> Result<Compressor, Problem> {
        let gzip = Any { type_url: Gzip::type_url(), value: Vec::new() };
        let library = TypedExtensionConfig { name: "gzip".into(), typed_config: Some(gzip) };
        let config = Config { compressor_library: Some(library), ..config };
        Compressor::compile(&config, &Path::root(), &crate::stats::Stats::default().scope("http.web"))
    }

    #[test]
    fn clients_say_what_they_take() {
        for (accepted, expected) in [
            ("gzip", Choice::Gzip),
            ("br, gzip;q=0.5", Choice::Gzip),
            ("identity, gzip", Choice::Gzip),
            ("*", Choice::Wildcard),
            ("gzip;q=0, *", Choice::Nothing),
            ("gzip;q=0.1, identity;q=0.5", Choice::Identity),
            ("identity", Choice::Identity),
            ("gzip;q=0", Choice::Nothing),
            ("gzip;q=abc", Choice::Nothing),
            ("*;q=0", Choice::Nothing),
            ("GZIP", Choice::Nothing),
            ("deflate", Choice::Nothing),
        ] {
            assert_eq!(choose(accepted), expected, "{accepted}");
        }
    }

    #[test]
    fn some_replies_stay_as_they_are() {
        let settings = Config {
            response_direction_config: Some(ResponseDirectionConfig {
                disable_on_etag_header: true,
                uncompressible_response_codes: vec![206],
                ..ResponseDirectionConfig::default()
            }),
            ..Config::default()
        };
        let compressor = compressor(settings).unwrap();
        for (status, headers, expected) in [
            (200, &[("content-type", "text/plain; charset=utf-8"), ("content-length", "30")][..], true),
            (200, &[], true),
            (200, &[("content-length", "29")], false),
            (200, &[("content-type", "image/png")], false),
            (200, &[("content-type", "application/grpc+proto")], false),
            (200, &[("content-encoding", "br")], false),
            (200, &[("cache-control", "private, no-transform")], false),
            (200, &[("etag", "\"a\"")], false),
            (206, &[], false),
        ] {
            let pairs = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(compressor.compresses(status, &pairs.collect()), expected, "{status} {headers:?}");
        }
    }

    #[test]
    fn a_zipped_body_is_the_body() {
        let stats = compressor(Config::default()).unwrap().stats;
        let mut zip = Zip { encoder: GzEncoder::new(Vec::new(), Compression::default()), stats };
        let mut zipped = Vec::new();
        for chunk in [&b"hello "[..], b"hello ", b"hello"] {
            let piece = zip.data(Bytes::from_static(chunk)).unwrap();
            assert!(!piece.is_empty(), "what has come goes on at once");
            zipped.extend_from_slice(&piece);
        }
        zipped.extend_from_slice(&zip.end(None).unwrap().0);
        let mut text = String::new();
        flate2::read::GzDecoder::new(&zipped[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello hello hello");
        assert_eq!(zip.stats.bytes_before.value(), 17);
        assert_eq!(zip.stats.bytes_after.value(), zipped.len() as u64);
    }

    #[test]
    fn caches_are_told_once() {
        for (before, expected) in [
            (None, "Accept-Encoding"),
            (Some("accept"), "accept, Accept-Encoding"),
            (Some("accept-encoding, origin"), "accept-encoding, origin"),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(before.map(|value| (VARY, HeaderValue::from_static(value))));
            vary(&mut headers);
            assert_eq!(headers[VARY], expected);
        }
    }

    #[test]
    fn old_files_say_it_beside_the_direction() {
        #[expect(deprecated, reason = "what is tested")]
        let old = Config { content_length: Some(UInt32Value { value: 7 }), ..Config::default() };
        assert_eq!(compressor(old).unwrap().min_length, 7);
        let request = Config { request_direction_config: Some(Default::default()), ..Config::default() };
        assert_eq!(compressor(request).unwrap_err().path, "request_direction_config");
    }
}
