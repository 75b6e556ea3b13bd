//! Which backend serves a call: decided by the service part of its path.

use std::collections::HashMap;
use std::sync::Arc;

use crate::first::call::Call;
use crate::first::error::StartError;
use crate::first::status::{Code, Rejection};
use crate::first::upstream::Upstream;

#[derive(Debug, Default)]
pub(crate) struct Router {
    services: HashMap<String, Arc<Upstream>>,
}

impl Router {
    /// Sends calls of `services` to `upstream`.
    pub(crate) fn add(&mut self, services: &[String], upstream: &Arc<Upstream>) -> Result<(), StartError> {
        for service in services {
            if self.services.insert(service.clone(), Arc::clone(upstream)).is_some() {
                return Err(StartError::ServiceTwice(service.clone()));
            }
        }
        Ok(())
    }

    pub(crate) fn route(&self, call: &Call) -> Result<Arc<Upstream>, Rejection> {
        call.service()
            .and_then(|service| self.services.get(service))
            .cloned()
            .ok_or_else(|| Rejection::new(Code::Unimplemented, format!("nothing serves {}", call.path)))
    }
}
