//! Values that several domains speak of: pure, valid by construction, without I/O.
//!
//! A value belongs here once two domains' APIs use it. What only one domain knows stays in that domain.

mod id;
mod import;
mod money;
mod request;
mod time;
mod violation;

pub mod contact;
pub mod csv;
pub mod filter;
pub mod page;
pub mod wire;

pub use id::{GoldenId, InvalidId, LocationId, OrderUid, Sku, SourceRef, System};
pub use import::Imported;
pub use money::{Currency, InvalidCurrency};
pub use request::{Request, etag};
pub use time::Timestamp;
pub use violation::{InvalidRequest, Violation, Violations};
