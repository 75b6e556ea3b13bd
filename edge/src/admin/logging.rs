//! How much the process tells of itself: a level for all, and others for single targets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::command::Query;
use super::{Admin, Reply};

/// Puts a filter in force that is written as `info,edge::proxy=debug`.
pub type SetLogFilter = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Envoy's names, and those of `tracing`.
const LEVELS: [(&str, &str); 7] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("off", "off"),
];

/// The levels that were asked for.
pub(super) struct Levels {
    set: Option<SetLogFilter>,
    /// By target; the one without a name is for all others.
    chosen: Mutex<BTreeMap<String, &'static str>>,
}

impl Levels {
    pub(super) fn new(set: Option<SetLogFilter>) -> Self {
        Self { set, chosen: Mutex::new(BTreeMap::from([(String::new(), "info")])) }
    }

    fn chosen(&self) -> MutexGuard<'_, BTreeMap<String, &'static str>> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over `changes` all together, or none of them.
    fn change(&self, changes: &[(String, String)]) -> Result<(), String> {
        let set = self.set.as_ref().ok_or("this process does not let its levels be changed")?;
        let mut chosen = self.chosen();
        let mut next = chosen.clone();
        for (target, level) in changes {
            let known = LEVELS.iter().find(|(envoys, ours)| level == envoys || level == ours);
            let (level, _) = known.ok_or("unknown logger level")?;
            if target.is_empty() {
                next.clear();
            } else if !target.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
                return Err("unknown logger name".to_owned());
            }
            next.insert(target.clone(), level);
        }
        set(&directives(&next))?;
        *chosen = next;
        Ok(())
    }

    fn list(&self) -> String {
        let mut list = "active loggers:\n".to_owned();
        for (target, level) in &*self.chosen() {
            let target = if target.is_empty() { "default" } else { target };
            // Writing to a String cannot fail.
            let _ = writeln!(list, "  {target}: {level}");
        }
        list
    }
}

fn directives(levels: &BTreeMap<String, &'static str>) -> String {
    let ours =
        |level: &str| LEVELS.iter().find(|(envoys, _)| *envoys == level).map_or("info", |(_, ours)| ours);
    let directives = levels.iter().map(|(target, level)| match target.as_str() {
        "" => ours(level).to_owned(),
        target => format!("{target}={}", ours(level)),
    });
    directives.collect::<Vec<_>>().join(",")
}

pub(super) fn logging(admin: &Admin, query: &Query) -> Reply {
    let changed = changes(query).and_then(|changes| match changes.as_slice() {
        [] => Ok(()),
        changes => admin.levels.change(changes),
    });
    let list = admin.levels.list();
    match changed {
        Ok(()) => Reply::text(list + "\n"),
        Err(error) => Reply::bad_request(format!(
            "error: {error}\n\nusage: /logging?<name>=<level> (change single level)\n\
             usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
             usage: /logging?level=<level> (change all levels)\n\
             levels: trace debug info warning error critical off\n{list}\n"
        )),
    }
}

/// Which targets shall have which level.
fn changes(query: &Query) -> Result<Vec<(String, String)>, String> {
    match query.all() {
        [] => Ok(Vec::new()),
        [(name, level)] if name == "level" => Ok(vec![(String::new(), level.clone())]),
        [(name, paths)] if name == "paths" => {
            let paths = paths.split(',').filter(|path| !path.is_empty());
            // A target has colons itself.
            let pairs =
                paths.map(|path| path.rsplit_once(':').ok_or("a path needs a level, as in name:debug"));
            pairs
                .map(|pair| {
                    pair.map(|(target, level)| (target.to_owned(), level.to_owned())).map_err(str::to_owned)
                })
                .collect()
        }
        [one] => Ok(vec![one.clone()]),
        _ => Err("invalid number of parameters".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> (Levels, Arc<Mutex<String>>) {
        let filter = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&filter);
        let set: SetLogFilter = Arc::new(move |directives| {
            directives.clone_into(&mut written.lock().unwrap());
            Ok(())
        });
        (Levels::new(Some(set)), filter)
    }

    fn change(levels: &Levels, query: &str) -> Result<(), String> {
        levels.change(&changes(&Query::parse(Some(query))).unwrap())
    }

    #[test]
    fn levels_are_set_for_all_and_for_single_targets() {
        let (levels, filter) = levels();
        change(&levels, "edge::proxy=debug").unwrap();
        assert_eq!(*filter.lock().unwrap(), "info,edge::proxy=debug");
        change(&levels, "paths=edge::upstream:trace,h2:warning").unwrap();
        assert_eq!(*filter.lock().unwrap(), "info,edge::proxy=debug,edge::upstream=trace,h2=warn");
        assert!(levels.list().contains("\n  h2: warning\n"), "{}", levels.list());
        change(&levels, "level=critical").unwrap();
        assert_eq!(*filter.lock().unwrap(), "error");
    }

    #[test]
    fn what_is_unknown_changes_nothing() {
        let (levels, filter) = levels();
        for query in ["level=loud", "a b=debug", "paths=a:debug,b:loud"] {
            assert!(change(&levels, query).is_err(), "{query}");
        }
        assert_eq!(*filter.lock().unwrap(), "");
        assert!(changes(&Query::parse(Some("a=debug&b=debug"))).is_err());
    }
}
