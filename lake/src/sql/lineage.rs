//! Which columns of which tables a query's columns are made of.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::{
    common::{
        Column,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan},
};

/// For each column of a result, the columns (`<layer>.<table>`, name) that its values come from.
pub(crate) type Lineage = BTreeMap<String, BTreeSet<(String, String)>>;

type Sources = BTreeSet<(String, String)>;

/// The lineage of a query.
pub(crate) fn lineage(plan: &LogicalPlan) -> Lineage {
    let names = plan.schema().fields().iter().map(|field| field.name().clone());
    names.zip(columns(plan)).collect()
}

/// The sources of each of a plan's columns.
fn columns(plan: &LogicalPlan) -> Vec<Sources> {
    let fields = plan.schema().fields();
    if let LogicalPlan::TableScan(scan) = plan {
        let table = match scan.table_name.schema() {
            Some(layer) => format!("{layer}.{}", scan.table_name.table()),
            None => scan.table_name.table().to_owned(),
        };
        return fields.iter().map(|field| [(table.clone(), field.name().clone())].into()).collect();
    }
    let inputs: Vec<_> = plan.inputs().into_iter().map(|input| (input, columns(input))).collect();
    if let LogicalPlan::Union(_) = plan {
        return merged(fields.len(), inputs.into_iter().map(|(_, columns)| columns));
    }
    let made = match plan {
        LogicalPlan::Projection(projection) => projection.expr.clone(),
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect()
        }
        LogicalPlan::Window(window) => window.window_expr.clone(),
        _ => Vec::new(),
    };
    let made = made.iter().map(|expr| of_expression(expr, &inputs));
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => made.collect(),
        // Everything else passes its inputs' columns on, in order, and adds its own.
        _ => {
            let passed = inputs.iter().flat_map(|(_, columns)| columns.clone());
            let mut all: Vec<_> = passed.chain(made).collect();
            all.resize(fields.len(), Sources::new());
            all
        }
    }
}

fn merged(width: usize, inputs: impl Iterator<Item = Vec<Sources>>) -> Vec<Sources> {
    let mut all = vec![Sources::new(); width];
    for columns in inputs {
        for (column, sources) in all.iter_mut().zip(columns) {
            column.extend(sources);
        }
    }
    all
}

fn of_expression(expr: &Expr, inputs: &[(&LogicalPlan, Vec<Sources>)]) -> Sources {
    let mut sources: Sources =
        expr.column_refs().into_iter().flat_map(|column| of_column(column, inputs)).collect();
    // A scalar subquery is a plan of its own; the walk cannot fail.
    let _ = expr.apply(|inner| {
        if let Expr::ScalarSubquery(subquery) = inner {
            sources.extend(columns(&subquery.subquery).into_iter().flatten());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    sources
}

fn of_column(column: &Column, inputs: &[(&LogicalPlan, Vec<Sources>)]) -> Sources {
    inputs
        .iter()
        .find_map(|(plan, columns)| columns.get(plan.schema().maybe_index_of_column(column)?).cloned())
        .unwrap_or_default()
}
