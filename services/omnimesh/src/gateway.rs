//! `omnimesh edge`: a gateway of an Envoy v3 bootstrap, in Envoy's place.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use edge::{
    Problem,
    bootstrap::{self, Loaded},
    explain::{Question, explain},
    gateway::{self, Options, Running},
    stamps,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::{
    bootstrap as mesh_edge,
    cli::{EdgeArgs, EdgeCommand, EdgeLogLevel, EdgeMode},
    config::Config,
    error::Failure,
    output,
    roles::ROLES,
    serve, up,
};

/// How often files are looked at: what a mount shows may change without a word to those who watch.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: EdgeArgs) -> Result<(), Failure> {
    match &args.command {
        Some(EdgeCommand::Support { file }) => {
            return output::text(bootstrap::support_report(&read(file)?).map_err(|all| told(&all, file))?);
        }
        Some(EdgeCommand::Migrate { file }) => {
            return output::text(bootstrap::migrate(&read(file)?).map_err(|all| told(&all, file))?);
        }
        Some(EdgeCommand::Explain { method, path, file, headers, authority, listener, json }) => {
            let question = Question {
                method: method.clone(),
                path: path.clone(),
                authority: authority.clone(),
                headers: headers.clone(),
                listener: listener.clone(),
            };
            return tell(file, &question, *json);
        }
        None => {}
    }
    if args.print_config {
        return print_config(&args);
    }
    let loaded = load(&args)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {}", warning.in_file(&name(&args)));
    }
    if args.mode == EdgeMode::Validate {
        gateway::validate(&loaded).map_err(|problem| told(&[problem], Path::new(&name(&args))))?;
        return output::line(format_args!("configuration '{}' OK", name(&args)));
    }
    run_gateway(&args, loaded).await
}

/// The bootstrap that `up` or `serve` would run.
fn print_config(args: &EdgeArgs) -> Result<(), Failure> {
    let config = Config::load(&args.common, Some(&args.addresses))?;
    let roles = match args.roles.is_empty() {
        true => ROLES.iter().collect(),
        false => serve::chosen(&args.roles)?,
    };
    let (text, note) = mesh_edge::print(&config, &roles).map_err(Failure::Usage)?;
    output::text(text)?;
    if let Some(note) = note {
        eprintln!("note: {note}");
    }
    Ok(())
}

async fn run_gateway(args: &EdgeArgs, loaded: Loaded) -> Result<(), Failure> {
    let (filter, handle) = reload::Layer::new(filter(args.log_level)?);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(log).init();
    let set_log_filter = move |text: &str| {
        let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    };
    let options = Options {
        concurrency: args.concurrency.unwrap_or_else(gateway::cores),
        drain_time: Duration::from_secs(args.drain_time_s),
        set_log_filter: Some(Arc::new(set_log_filter)),
        render_metrics: None,
    };
    let interrupt = up::interrupt()?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::usage)?;
    let mut reopen = signal(SignalKind::user_defined1()).map_err(Failure::usage)?;
    let running = gateway::start(loaded, &options).map_err(Failure::usage)?;
    for (name, address) in running.listeners() {
        eprintln!("{name} listens on {address}");
    }
    if let Some(address) = running.admin() {
        eprintln!("admin listens on {address}");
    }
    let mut looks = interval(LOOK);
    let mut seen = stamps(files(args, &running));
    let told = output::line("ready");
    tokio::pin!(interrupt);
    while told.is_ok() {
        tokio::select! {
            () = &mut interrupt => break,
            () = running.quit_requested() => break,
            _ = hangup.recv() => take_again(args, &running).await,
            _ = looks.tick() => {
                // Before it is read: what changes between is seen as a change.
                let found = stamps(files(args, &running));
                if found != seen {
                    seen = found;
                    take_again(args, &running).await;
                }
            }
            _ = reopen.recv() => running.reopen_logs(),
        }
    }
    eprintln!("stopping");
    running.shutdown(options.drain_time).await;
    told
}

/// The bootstrap and the files of its secrets; certificates are followed by the gateway itself.
fn files(args: &EdgeArgs, running: &Running) -> Vec<PathBuf> {
    let secrets = running.secret_files().into_iter().map(PathBuf::from);
    args.config_path.iter().cloned().chain(secrets).collect()
}

/// Takes what the file says now, if it can work.
async fn take_again(args: &EdgeArgs, running: &Running) {
    if args.config_path.is_none() {
        return;
    }
    match load(args) {
        Ok(loaded) => match running.reload(loaded).await {
            Ok(()) => tracing::info!("the configuration is taken"),
            Err(error) => tracing::error!("the configuration stays as it was: {error}"),
        },
        Err(error) => tracing::error!("the configuration stays as it was: {error}"),
    }
}

/// Explains what becomes of a request.
fn tell(file: &Path, question: &Question, json: bool) -> Result<(), Failure> {
    let loaded = bootstrap::load(&read(file)?).map_err(|all| told(&all, file))?;
    let explanation = explain(&loaded, question).map_err(|problem| told(&[problem], file))?;
    if json {
        output::json(&explanation)?;
    } else {
        output::text(&explanation)?;
    }
    if explanation.is_matched() {
        Ok(())
    } else {
        Err(Failure::Unsound("no route takes the request".to_owned()))
    }
}

fn load(args: &EdgeArgs) -> Result<Loaded, Failure> {
    let text = match (&args.config_path, &args.config_yaml) {
        (Some(path), _) => read(path)?,
        (None, text) => text.clone().unwrap_or_default(),
    };
    bootstrap::load(&text).map_err(|all| told(&all, Path::new(&name(args))))
}

fn name(args: &EdgeArgs) -> String {
    args.config_path.as_ref().map_or_else(|| "--config-yaml".to_owned(), |path| path.display().to_string())
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    // A comment may be in any encoding; what matters is not.
    Ok(String::from_utf8_lossy(&bytes.map_err(Failure::Usage)?).into_owned())
}

fn told(problems: &[Problem], file: &Path) -> Failure {
    let file = file.display().to_string();
    let lines: Vec<_> = problems.iter().map(|problem| problem.in_file(&file)).collect();
    Failure::Usage(anyhow!("{}", lines.join("\n")))
}

fn filter(level: EdgeLogLevel) -> Result<EnvFilter, Failure> {
    let level = match level {
        EdgeLogLevel::Trace => "trace",
        EdgeLogLevel::Debug => "debug",
        EdgeLogLevel::Info => "info",
        EdgeLogLevel::Warning => "warn",
        EdgeLogLevel::Error | EdgeLogLevel::Critical => "error",
        EdgeLogLevel::Off => "off",
    };
    EnvFilter::try_new(level).map_err(Failure::usage)
}
