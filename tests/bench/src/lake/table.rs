//! What was found, as a table.

use comfy_table::{CellAlignment, Table, presets};

/// A figure, with a value for each round.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    /// Whose the figure beside ours is.
    beside: &'static str,
    goal: &'static str,
    pub(crate) ours: Vec<f64>,
    pub(crate) theirs: Vec<f64>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, beside: &'static str, goal: &'static str) -> Self {
        Self { name: name.into(), beside, goal, ours: Vec::new(), theirs: Vec::new() }
    }

    fn cells(&self) -> [String; 5] {
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        let ratio = ours.zip(theirs).map(|(ours, theirs)| format!("{:.2} ×", ours / theirs));
        let theirs = theirs.map(|theirs| format!("{} ({})", shown(theirs), self.beside));
        let [ours, theirs, ratio] = [ours.map(shown), theirs, ratio].map(Option::unwrap_or_default);
        [self.name.clone(), ours, theirs, ratio, self.goal.to_owned()]
    }
}

/// A table of the rows.
pub(crate) fn show(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["measured", "ours", "theirs", "ratio", "goal"]);
    table.add_rows(rows.iter().map(Row::cells));
    for column in table.column_iter_mut().skip(1).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Of nothing there is none.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn shown(value: f64) -> String {
    let digits = match value {
        value if value < 1.0 => 3,
        value if value < 100.0 => 2,
        _ => 0,
    };
    format!("{value:.digits$}")
}
