//! What the contract says of each method: who may call it, and whether it streams. Read from descriptors once
//! at start, looked up by path for every call.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

use crate::error::StartError;
use crate::semconv;

/// The method option that names the permission.
const AUTHZ_OPTION: &str = "omnimesh.options.v1.authz";

/// Every permission that a method of the contract asks for.
pub fn permissions() -> Result<BTreeSet<String>, StartError> {
    let methods = Methods::of_contract()?;
    let permissions = methods.by_path.values().filter_map(|method| match &method.access {
        Access::Permission(permission) => Some(permission.clone()),
        _ => None,
    });
    Ok(permissions.collect())
}

/// A service whose protocol is not ours: no descriptor of the contract says who may call it.
#[derive(Debug, Clone, Copy)]
pub struct Foreign {
    /// Its full name.
    pub service: &'static str,
    /// What a caller of any of its methods needs.
    pub permission: &'static str,
    /// Its methods, and which sides of each send a stream.
    pub methods: &'static [(&'static str, Streams)],
}

/// Which sides of a method send a stream; the others send one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Neither.
    Neither,
    /// The server.
    Server,
    /// The client and the server.
    Both,
}

/// Who may call a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone: health and reflection.
    Open,
    /// Callers that hold the permission.
    Permission(String),
    /// Nobody: the contract forgot to say.
    Undeclared,
    /// Nobody: there is no such method.
    Unknown,
}

/// One method of the contract.
#[derive(Debug)]
pub(crate) struct Method {
    /// `package.Service/Method`.
    pub(crate) name: String,
    pub(crate) access: Access,
    pub(crate) client_streaming: bool,
    pub(crate) server_streaming: bool,
}

impl Method {
    pub(crate) fn is_unary(&self) -> bool {
        !self.client_streaming && !self.server_streaming
    }
}

/// All methods by path.
#[derive(Debug)]
pub(crate) struct Methods {
    by_path: HashMap<String, Arc<Method>>,
    unknown: Arc<Method>,
}

impl Methods {
    /// Reads the contract, and with it the services that every server has.
    pub(crate) fn of_contract() -> Result<Self, StartError> {
        let mut methods = Self {
            by_path: HashMap::new(),
            unknown: Arc::new(Method {
                name: semconv::OTHER.to_owned(),
                access: Access::Unknown,
                client_streaming: false,
                server_streaming: false,
            }),
        };
        methods.insert(omnimesh_proto::FILE_DESCRIPTOR_SET, declared_access)?;
        methods.insert(tonic_health::pb::FILE_DESCRIPTOR_SET, |_| Access::Open)?;
        methods.insert(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, |_| Access::Open)?;
        Ok(methods)
    }

    /// The method at a request's path; a stand-in that nobody may call if there is none.
    pub(crate) fn get(&self, path: &str) -> Arc<Method> {
        Arc::clone(self.by_path.get(path).unwrap_or(&self.unknown))
    }

    /// Adds a service that the contract does not describe.
    pub(crate) fn add(&mut self, foreign: &Foreign) {
        for (method, streams) in foreign.methods {
            let name = format!("{}/{method}", foreign.service);
            let entry = Method {
                access: Access::Permission(foreign.permission.to_owned()),
                client_streaming: *streams == Streams::Both,
                server_streaming: *streams != Streams::Neither,
                name,
            };
            self.by_path.insert(format!("/{}", entry.name), Arc::new(entry));
        }
    }

    fn insert(
        &mut self,
        descriptors: &[u8],
        access: fn(&MethodDescriptor) -> Access,
    ) -> Result<(), StartError> {
        let pool = DescriptorPool::decode(descriptors)
            .map_err(|error| StartError::failed("read the descriptors of the contract", error))?;
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let name = format!("{}/{}", method.parent_service().full_name(), method.name());
            let entry = Method {
                access: access(&method),
                client_streaming: method.is_client_streaming(),
                server_streaming: method.is_server_streaming(),
                name,
            };
            self.by_path.insert(format!("/{}", entry.name), Arc::new(entry));
        }
        Ok(())
    }
}

fn declared_access(method: &MethodDescriptor) -> Access {
    permission_of(method).map_or(Access::Undeclared, Access::Permission)
}

fn permission_of(method: &MethodDescriptor) -> Option<String> {
    let option = method.parent_pool().get_extension_by_name(AUTHZ_OPTION)?;
    let options: DynamicMessage = method.options();
    if !options.has_extension(&option) {
        return None;
    }
    let authz = options.get_extension(&option);
    let permission = authz.as_message()?.get_field_by_name("permission").map(|value| value.into_owned());
    match permission {
        Some(Value::String(permission)) if !permission.is_empty() => Some(permission),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_contract_names_its_permission() {
        let methods = Methods::of_contract().unwrap();
        let undeclared: Vec<_> =
            methods.by_path.values().filter(|method| method.access == Access::Undeclared).collect();
        assert!(undeclared.is_empty(), "{undeclared:?}");
    }

    #[test]
    fn methods_are_found_by_path() {
        let methods = Methods::of_contract().unwrap();
        let stream = methods.get("/omnimesh.event.v1.EventService/StreamEvents");
        assert_eq!(stream.access, Access::Permission("event.read".to_owned()));
        assert!(stream.server_streaming && !stream.client_streaming);
        let health = methods.get("/grpc.health.v1.Health/Check");
        assert!(health.access == Access::Open && health.is_unary());
        assert_eq!(methods.get("/omnimesh.event.v1.EventService/Nothing").access, Access::Unknown);
    }

    #[test]
    fn a_foreign_service_asks_one_permission_for_all_of_its_methods() {
        let mut methods = Methods::of_contract().unwrap();
        methods.add(&Foreign {
            service: "far.Away",
            permission: "far.call",
            methods: &[("Ask", Streams::Neither), ("Follow", Streams::Server), ("Talk", Streams::Both)],
        });
        for (path, unary, client_streaming) in [
            ("/far.Away/Ask", true, false),
            ("/far.Away/Follow", false, false),
            ("/far.Away/Talk", false, true),
        ] {
            let method = methods.get(path);
            assert_eq!(method.access, Access::Permission("far.call".to_owned()));
            assert_eq!((method.is_unary(), method.client_streaming), (unary, client_streaming), "{path}");
        }
        assert_eq!(methods.get("/far.Away/Else").access, Access::Unknown);
    }
}
