//! Every RPC of the contract: who may call it, that it may be retried or not, where it is served, that it is tested.

use std::{collections::HashSet, path::PathBuf, sync::LazyLock};

use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::{
    source,
    workspace::{expect_none, root, rust_files},
};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(omnimesh_proto::FILE_DESCRIPTOR_SET)
        .expect("the contract's descriptors are well formed")
});

fn methods() -> Vec<MethodDescriptor> {
    let services = POOL.services().filter(|service| service.package_name().starts_with("omnimesh."));
    services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

fn domain(package: &str) -> &str {
    package.split('.').nth(1).unwrap_or_default()
}

fn domain_of(method: &MethodDescriptor) -> String {
    domain(method.parent_service().package_name()).to_owned()
}

/// `GetStock` is `get_stock` in every layer.
fn operation(method: &MethodDescriptor) -> String {
    let mut name = String::new();
    for letter in method.name().chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[test]
fn every_rpc_says_who_may_call_it() {
    let authz = POOL.get_extension_by_name("omnimesh.options.v1.authz").expect("the authz option");
    let wrong = methods().into_iter().filter_map(|method| {
        let options = method.options();
        let authz = options.get_extension(&authz);
        let permission = authz.as_message()?.get_field_by_name("permission")?.as_str()?.to_owned();
        // What the lake serves of what it computes is the lake's, whatever it is about.
        let domain = domain_of(&method).replace("feature", "lake");
        let fits = ["read", "write", "erase"].iter().any(|verb| permission == format!("{domain}.{verb}"));
        (!fits).then(|| format!("{}: {permission:?}", method.full_name()))
    });
    expect_none(
        "An RPC without a permission of its domain",
        "give it `option (omnimesh.options.v1.authz) = {permission: \"<domain>.<read|write|erase>\"}`",
        wrong,
    );
}

#[test]
fn every_rpc_says_whether_it_may_be_retried() {
    let idempotency = POOL.get_extension_by_name("omnimesh.options.v1.idempotency").expect("the option");
    let silent = methods().into_iter().filter(|method| !method.options().has_extension(&idempotency));
    expect_none(
        "An RPC that does not say whether it may be retried",
        "give it `option (omnimesh.options.v1.idempotency) = …`",
        silent.map(|method| method.full_name().to_owned()),
    );
}

#[test]
fn every_rpc_has_one_name_in_every_layer() {
    let missing = methods().into_iter().flat_map(|method| {
        let source = PathBuf::from("services").join(domain_of(&method)).join("src");
        let layers = if root().join(&source).exists() { &["grpc", "service"][..] } else { &[] };
        let absent = layers.iter().filter(|layer| {
            let files = rust_files(&source).into_iter().filter(|path| source::role(path) == **layer);
            !files.flat_map(|path| source::functions(&path)).any(|function| function == operation(&method))
        });
        let absent =
            absent.map(|layer| format!("{}: no fn {} in {layer}", method.full_name(), operation(&method)));
        absent.collect::<Vec<_>>()
    });
    expect_none(
        "An operation is not called the same in every layer",
        "name the method in grpc.rs and in service.rs as the RPC, in snake case",
        missing,
    );
}

#[test]
fn every_rpc_is_tested() {
    let tests: HashSet<String> = ["services", "lake"]
        .into_iter()
        .flat_map(rust_files)
        .filter(|path| path.components().any(|component| component.as_os_str() == "tests"))
        .flat_map(|path| source::tests(&path))
        .collect();
    let untested = methods().into_iter().filter(|method| {
        let prefix = operation(method) + "_";
        !tests.iter().any(|test| test.starts_with(&prefix))
    });
    expect_none(
        "An RPC without a test",
        "add a test that calls it through a channel and whose name begins with the operation's, as get_stock_returns_…",
        untested.map(|method| format!("{}: {}_*", method.full_name(), operation(&method))),
    );
}

#[test]
fn domains_share_only_the_shared_messages() {
    let shared = ["type", "options"];
    let strays = POOL.files().filter(|file| file.package_name().starts_with("omnimesh.")).flat_map(|file| {
        let own = domain(file.package_name()).to_owned();
        let imports = file.dependencies().filter(|import| import.package_name().starts_with("omnimesh."));
        let strays = imports.filter(|import| {
            let domain = domain(import.package_name());
            domain != own && !shared.contains(&domain)
        });
        strays.map(|import| format!("{} imports {}", file.name(), import.name())).collect::<Vec<_>>()
    });
    expect_none(
        "A domain's messages in another domain's contract",
        "name the other's resource by its id, or move a value that both use to omnimesh/type/v1",
        strays,
    );
}
