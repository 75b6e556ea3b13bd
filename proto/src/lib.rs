//! The contract as Rust: messages, clients and servers of every domain, and the descriptors with their options.
#![expect(clippy::all, clippy::pedantic, reason = "generated code; its shape is the generator's")]

/// Every file of the contract and of what it imports, options included: for reflection, authorization and guards.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Package `omnimesh.type`.
pub mod r#type {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.r#type.v1");
    }
}

/// Package `omnimesh.event`.
pub mod event {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.event.v1");
    }
}

/// Package `omnimesh.identity`.
pub mod identity {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.identity.v1");
    }
}

/// Package `omnimesh.customer`.
pub mod customer {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.customer.v1");
    }
}

/// Package `omnimesh.catalog`.
pub mod catalog {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.catalog.v1");
    }
}

/// Package `omnimesh.inventory`.
pub mod inventory {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.inventory.v1");
    }
}

/// Package `omnimesh.order`.
pub mod order {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.order.v1");
    }
}

/// Package `omnimesh.ingest`.
pub mod ingest {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.ingest.v1");
    }
}

/// Package `omnimesh.feature`.
pub mod feature {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.feature.v1");
    }
}

/// Package `omnimesh.edge`.
pub mod edge {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.edge.v1");
    }
}

/// Package `omnimesh.lake`.
pub mod lake {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.lake.v1");
    }
}

/// Package `omnimesh.options`.
pub mod options {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("omnimesh.options.v1");
    }
}
