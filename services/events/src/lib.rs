//! How services tell: an outbox that is written in the transaction of what it tells, read in commit order, and
//! consumed exactly once because a consumer keeps its cursor in the transaction of what it derived.
//!
//! No retail word appears here; what an event means is its domain's business.

mod consumer;
mod consumers;
mod cursor;
mod error;
mod grpc;
mod log;
mod watch;

pub use consumer::{Consumer, Handler, caught};
pub use consumers::{Consumers, Position, beside, consume, run};
pub use cursor::Cursor;
pub use error::Error;
pub use grpc::{Directory, SERVICE, serve};
pub use log::{Batch, Log, MAX_EVENT_BYTES, NewEvent};
pub use omnimesh_proto::event::v1::Event;
pub use watch::{Begin, Change, decode, watch};
