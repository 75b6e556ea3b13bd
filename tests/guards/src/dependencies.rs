//! Who may depend on whom: dependencies point down, and heavy ones stay where they belong.

use crate::workspace::{FOUNDATIONS, Package, domains, expect_none, packages};

/// What a crate may use of ours; none when it may use everything.
fn allowed(package: &Package) -> Option<&'static [&'static str]> {
    Some(match &*package.name {
        "omnimesh" | "system" | "bench" => return None,
        "omnimesh-proto" | "silos" => &[],
        "guards" | "types" => &["omnimesh-proto"],
        "mesh" | "storage" => &["types", "omnimesh-proto"],
        "events" => &["storage", "mesh", "types", "omnimesh-proto"],
        "edge" => &["mesh", "storage", "types", "omnimesh-proto"],
        "lake" => &["mesh", "events", "types", "omnimesh-proto"],
        _ if package.is_domain() => &["events", "storage", "mesh", "types", "omnimesh-proto"],
        _ => &[],
    })
}

/// What a crate's tests may use beside. Ingest feeds four domains from the silos: only the real ones can tell whether
/// what they were given arrived, so its tests serve them beside it. The product still knows their contract only.
fn allowed_in_tests(package: &Package) -> &'static [&'static str] {
    match &*package.name {
        "ingest" => &["identity", "catalog", "inventory", "order", "silos"],
        _ => &[],
    }
}

#[test]
fn dependencies_point_down() {
    let guarded = packages().iter().filter_map(|package| Some((package, allowed(package)?)));
    let forbidden = guarded.flat_map(|(package, allowed)| {
        let uses = package.uses.iter().filter(move |name| !allowed.contains(&&***name));
        // Tests may stand on every foundation, and on a feature of the crate itself that exists for tests.
        let tested_with = package.tested_with.iter().filter(move |name| {
            let known = [allowed, allowed_in_tests(package), &FOUNDATIONS, &[&*package.name]];
            !known.iter().any(|known| known.contains(&&***name))
        });
        uses.chain(tested_with).map(|name| format!("{} -> {name}", package.name))
    });
    expect_none(
        "A crate depends on one that it must not know",
        "reach another domain through its generated client on a mesh channel or through its published events; \
         a new crate gets its line in tests/guards/src/dependencies.rs and in ARCHITECTURE.md",
        forbidden,
    );
}

/// A heavy dependency in one more crate makes every build of that crate's dependants slow.
#[test]
fn heavy_dependencies_have_one_home() {
    let homes = [("lance", "lake"), ("datafusion", "lake"), ("pingora", "edge")];
    let strays = packages().iter().flat_map(|package| {
        let strays = package.external.iter().filter(|dependency| {
            homes.iter().any(|(family, home)| dependency.starts_with(family) && package.name != *home)
        });
        strays.map(|dependency| format!("{} -> {dependency}", package.name))
    });
    expect_none(
        "A crate depends on a library that has its home elsewhere",
        "use lance and datafusion in lake only, pingora in edge only",
        strays,
    );
}

#[test]
fn there_are_domains_to_guard() {
    assert!(domains().count() > 0, "no crate in services/ is a domain: the guards would pass over nothing");
}
