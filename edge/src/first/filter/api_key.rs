//! Who calls: the API key in `x-api-key` becomes the consumer headers that services believe.
//!
//! Services believe `x-omnimesh-*` because the edge lets no such header in.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::first::call::{Call, Consumer};
use crate::first::status::{Code, Rejection};
use crate::keys::Keys;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const CONSUMER: HeaderName = HeaderName::from_static("x-omnimesh-consumer");
const PERMISSIONS: HeaderName = HeaderName::from_static("x-omnimesh-permissions");
const RESERVED_PREFIX: &str = "x-omnimesh-";
/// Load balancers ask without a key.
const OPEN_SERVICE: &str = "grpc.health.v1.Health";

/// The consumer that holds the request's key; none for the one service that needs no key.
pub(crate) fn authenticate(
    keys: &Keys,
    headers: &HeaderMap,
    call: &Call,
) -> Result<Option<Consumer>, Rejection> {
    match headers.get(API_KEY) {
        Some(key) => keys.authenticate(key.as_bytes()).map(Some).ok_or_else(|| {
            Rejection::new(Code::Unauthenticated, "the API key in x-api-key is unknown or expired")
        }),
        None if call.service() == Some(OPEN_SERVICE) => Ok(None),
        None => Err(Rejection::new(Code::Unauthenticated, "an API key is needed in the header x-api-key")),
    }
}

/// Whether the client's header stays at the edge.
pub(crate) fn is_withheld(name: &HeaderName) -> bool {
    *name == API_KEY || name.as_str().starts_with(RESERVED_PREFIX)
}

/// The headers that tell services who calls.
pub(crate) fn identity(consumer: &Consumer) -> [(HeaderName, &HeaderValue); 2] {
    [(CONSUMER, &consumer.id), (PERMISSIONS, &consumer.permissions)]
}
