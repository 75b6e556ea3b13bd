//! `omnimesh serve`: chosen roles in one process, the others elsewhere.

use anyhow::anyhow;

use crate::{
    cli::ServeArgs,
    config::Config,
    error::Failure,
    node::Node,
    roles::{self, ROLES, Role},
    up,
};

pub(crate) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let config = Config::load(&args.common, Some(&args.addresses))?;
    let chosen = chosen(&args.roles)?;
    let interrupt = up::interrupt()?;
    let node = Node::start(&config, &chosen).await?;
    let told = up::report(&node, &config);
    if told.is_ok() {
        interrupt.await;
    }
    up::stop(node).await?;
    told
}

/// The roles of these names.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Role>, Failure> {
    let mut chosen = Vec::new();
    for name in names {
        let known = || ROLES.iter().map(|role| role.name).collect::<Vec<_>>().join(", ");
        let role = roles::find(name)
            .ok_or_else(|| Failure::Usage(anyhow!("there is no role `{name}`; there are: {}", known())))?;
        if !chosen.iter().any(|earlier: &&Role| earlier.name == role.name) {
            chosen.push(role);
        }
    }
    Ok(chosen)
}
