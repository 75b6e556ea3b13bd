//! `omnimesh up`: every role in one process.

use crate::{
    cli::UpArgs, config::Config, demo, error::Failure, load::load, node::Node, output, progress::Progress,
    roles::ROLES, table::table,
};

pub(crate) async fn run(args: UpArgs) -> Result<(), Failure> {
    let mut config = Config::load(&args.common, Some(&args.addresses))?;
    if args.demo {
        config.add_demo()?;
    }
    let interrupt = interrupt()?;
    tokio::pin!(interrupt);
    let progress = Progress::new();
    let node = Node::start(&config, &ROLES.iter().collect::<Vec<_>>()).await?;
    let loading = async {
        let mut phases = Vec::new();
        if args.demo {
            demo::build(&config, args.demo_size, &progress).await?;
            phases.extend(demo::PHASES.map(<[_]>::to_vec));
        }
        // One after the other: their order may matter, as it does for the demo's.
        phases.extend(config.configured.iter().map(|system| vec![system.as_str()]));
        load(&node, &config, &phases, &progress).await?;
        report(&node, &config)
    };
    // The interrupt wins at any moment; what was acknowledged until then is kept and the next `up` goes on.
    tokio::select! {
        biased;
        () = &mut interrupt => return stop(node).await,
        outcome = loading => {
            if let Err(error) = outcome {
                stop(node).await?;
                return Err(error);
            }
        }
    }
    if !args.exit_when_ready {
        interrupt.await;
    }
    stop(node).await
}

pub(crate) async fn stop(node: Node) -> Result<(), Failure> {
    eprintln!("stopping");
    Ok(node.shutdown().await?)
}

/// Ends when the process is asked to end (Ctrl-C or SIGTERM).
pub(crate) fn interrupt() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::usage)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::usage)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Says what runs where, and that it is ready.
pub(crate) fn report(node: &Node, config: &Config) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut row = |what: &str, place: String| rows.push(vec![what.to_owned(), place]);
    if let Some(listen) = node.whereabouts.listen {
        let scheme = if config.edge.tls.is_some() { "https" } else { "http" };
        row("gRPC and gRPC-Web", format!("{scheme}://{listen}"));
        row("API key", format!("{} (header x-api-key)", config.data_dir.join("admin.key").display()));
    }
    if let Some(admin) = node.whereabouts.admin {
        row("operators", format!("http://{admin}/ready, /stats/prometheus"));
    }
    row("roles", node.whereabouts.roles.join(", "));
    row("databases", storage::redacted(&config.storage().url));
    row("lake", config.lake()?.root.to_string());
    output::line(table(&["what", "where"], &[], rows))?;
    output::line("ready")
}
