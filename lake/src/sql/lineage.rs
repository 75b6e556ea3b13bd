//! What a query's result is made of: for each of its columns, which columns of which tables take part in it and how, and
//! beside them those that decide which rows there are.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::{
    common::{
        Column,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Case, Expr, LogicalPlan, Subquery, WindowFunctionDefinition},
};
use serde::{Deserialize, Serialize};

/// What a result is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lineage {
    /// What takes part in each column; nothing does in one that is the same in every row.
    pub columns: BTreeMap<String, BTreeSet<Origin>>,
    /// What decides which rows there are.
    pub rows: BTreeSet<Origin>,
}

/// A column of a table, and how it takes part in what is made of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// `<layer>/<name>`.
    pub table: String,
    /// The column.
    pub field: String,
    /// How it takes part.
    pub role: Role,
}

/// How a column takes part in what is made of it, in OpenLineage's terms. The first three say that values come from it;
/// the others, that it decides which values they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// As it is.
    Identity,
    /// A value of one row becomes another.
    Transformation,
    /// Values of many rows become one.
    Aggregation,
    /// It decides between values.
    Conditional,
    /// It decides whether a row counts.
    Filter,
    /// Rows that agree in it become one.
    GroupBy,
    /// Rows of two tables are matched by it.
    Join,
    /// Rows are ordered by it.
    Sort,
    /// It decides which other rows a row is seen with.
    Window,
}

impl Role {
    /// Whether values come from the column.
    pub fn is_direct(self) -> bool {
        self <= Self::Aggregation
    }

    /// The role in what is made of something by `next` in which the role is this one.
    fn then(self, next: Self) -> Self {
        if self.is_direct() { self.max(next) } else { self }
    }
}

type Origins = BTreeSet<Origin>;

/// The same origins after one more step.
pub(crate) fn through(origins: impl IntoIterator<Item = Origin>, next: Role) -> impl Iterator<Item = Origin> {
    origins.into_iter().map(move |origin| Origin { role: origin.role.then(next), ..origin })
}

/// The lineage of a query.
pub(crate) fn lineage(plan: &LogicalPlan) -> Lineage {
    let Made { columns, rows } = made(plan);
    let names = plan.schema().fields().iter().map(|field| field.name().clone());
    Lineage { columns: names.zip(columns).collect(), rows }
}

/// What a plan's columns, in their order, and its rows are made of.
struct Made {
    columns: Vec<Origins>,
    rows: Origins,
}

type Inputs<'a> = [(&'a LogicalPlan, Made)];

fn made(plan: &LogicalPlan) -> Made {
    let fields = plan.schema().fields();
    if let LogicalPlan::TableScan(scan) = plan {
        let table = match scan.table_name.schema() {
            Some(layer) => format!("{layer}/{}", scan.table_name.table()),
            None => scan.table_name.table().to_owned(),
        };
        let origin =
            |field: &String| Origin { table: table.clone(), field: field.clone(), role: Role::Identity };
        let columns = fields.iter().map(|field| [origin(field.name())].into()).collect();
        return Made { columns, rows: Origins::new() };
    }
    let inputs: Vec<_> = plan.inputs().into_iter().map(|input| (input, made(input))).collect();
    let rows = rows(plan, &inputs);
    let of = |expr: &Expr| of_expression(expr, Role::Identity, &inputs);
    // A value over many rows depends on which ones there are.
    let over_rows = |expr: &Expr| &of(expr) | &rows;
    let columns = match plan {
        LogicalPlan::Union(_) => merged(fields.len(), &inputs),
        LogicalPlan::Projection(projection) => projection.expr.iter().map(of).collect(),
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.iter().map(of).chain(aggregate.aggr_expr.iter().map(over_rows)).collect()
        }
        // Everything else passes its inputs' columns on, in order, and adds its own.
        _ => {
            let added = match plan {
                LogicalPlan::Window(window) => window.window_expr.as_slice(),
                _ => &[],
            };
            let passed = inputs.iter().flat_map(|(_, made)| made.columns.clone());
            let mut all: Vec<_> = passed.chain(added.iter().map(over_rows)).collect();
            all.resize(fields.len(), Origins::new());
            all
        }
    };
    Made { columns, rows }
}

/// What decides which rows a plan has: what does of its inputs, and what the plan itself goes by.
fn rows(plan: &LogicalPlan, inputs: &Inputs<'_>) -> Origins {
    let mut rows: Origins = inputs.iter().flat_map(|(_, made)| made.rows.clone()).collect();
    let (role, exprs): (_, Vec<&Expr>) = match plan {
        LogicalPlan::Filter(filter) => (Role::Filter, vec![&filter.predicate]),
        LogicalPlan::Aggregate(aggregate) => (Role::GroupBy, aggregate.group_expr.iter().collect()),
        LogicalPlan::Sort(sort) => (Role::Sort, sort.expr.iter().map(|sort| &sort.expr).collect()),
        LogicalPlan::Join(join) => {
            let on = join.on.iter().flat_map(|(left, right)| [left, right]);
            (Role::Join, on.chain(&join.filter).collect())
        }
        LogicalPlan::Distinct(_) => {
            let columns = inputs.iter().flat_map(|(_, made)| made.columns.iter().flatten().cloned());
            rows.extend(through(columns, Role::GroupBy));
            return rows;
        }
        _ => return rows,
    };
    rows.extend(exprs.into_iter().flat_map(|expr| of_expression(expr, role, inputs)));
    rows
}

fn merged(width: usize, inputs: &Inputs<'_>) -> Vec<Origins> {
    let mut all = vec![Origins::new(); width];
    for (_, made) in inputs {
        for (column, origins) in all.iter_mut().zip(&made.columns) {
            column.extend(origins.iter().cloned());
        }
    }
    all
}

/// What takes part in an expression that has this role.
fn of_expression(expr: &Expr, role: Role, inputs: &Inputs<'_>) -> Origins {
    if let Expr::Column(column) = expr {
        return through(of_column(column, inputs), role).collect();
    }
    let parts = parts(expr).into_iter();
    let mut origins: Origins =
        parts.flat_map(|(part, next)| of_expression(part, role.then(next), inputs)).collect();
    if let Some(subquery) = subquery(expr) {
        let Made { columns, rows } = made(&subquery.subquery);
        let next = role.then(Role::Transformation);
        origins.extend(through(columns.into_iter().flatten().chain(rows), next));
    }
    origins
}

/// What an expression is made of, and what part each has in it.
fn parts(expr: &Expr) -> Vec<(&Expr, Role)> {
    fn all<'a>(
        exprs: impl IntoIterator<Item = &'a Expr>,
        role: Role,
    ) -> impl Iterator<Item = (&'a Expr, Role)> {
        exprs.into_iter().map(move |expr| (expr, role))
    }
    match expr {
        Expr::Alias(alias) => vec![(&*alias.expr, Role::Identity)],
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let conditions = expr.iter().chain(when_then_expr.iter().map(|(when, _)| when));
            let values = when_then_expr.iter().map(|(_, then)| then).chain(else_expr);
            let conditions = all(conditions.map(|expr| &**expr), Role::Conditional);
            conditions.chain(all(values.map(|expr| &**expr), Role::Transformation)).collect()
        }
        Expr::AggregateFunction(function) => {
            let params = &function.params;
            let order = all(params.order_by.iter().map(|sort| &sort.expr), Role::Sort);
            let filter = all(params.filter.iter().map(|expr| &**expr), Role::Filter);
            all(&params.args, Role::Aggregation).chain(filter).chain(order).collect()
        }
        Expr::WindowFunction(function) => {
            let params = &function.params;
            let role = match function.fun {
                WindowFunctionDefinition::AggregateUDF(_) => Role::Aggregation,
                WindowFunctionDefinition::WindowUDF(_) => Role::Transformation,
            };
            let window = params.partition_by.iter().chain(params.order_by.iter().map(|sort| &sort.expr));
            let filter = all(params.filter.iter().map(|expr| &**expr), Role::Filter);
            all(&params.args, role).chain(all(window, Role::Window)).chain(filter).collect()
        }
        _ => {
            let mut parts = Vec::new();
            // The walk cannot fail.
            let _ = expr.apply_children(|part| {
                parts.push((part, Role::Transformation));
                Ok(TreeNodeRecursion::Continue)
            });
            parts
        }
    }
}

/// The plan that an expression asks.
fn subquery(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) => Some(subquery),
        Expr::Exists(exists) => Some(&exists.subquery),
        Expr::InSubquery(within) => Some(&within.subquery),
        Expr::SetComparison(comparison) => Some(&comparison.subquery),
        _ => None,
    }
}

fn of_column(column: &Column, inputs: &Inputs<'_>) -> Origins {
    inputs
        .iter()
        .find_map(|(plan, made)| made.columns.get(plan.schema().maybe_index_of_column(column)?).cloned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn each_column_takes_part_as_the_query_says() {
        let context = SessionContext::new();
        for sql in ["CREATE SCHEMA silver", "CREATE TABLE silver.sold (a INT, b INT, k INT)"] {
            context.sql(sql).await.unwrap();
        }
        for (sql, expected) in [
            ("SELECT a AS x FROM silver.sold ORDER BY b", vec![("a", Role::Identity)]),
            (
                "SELECT CASE WHEN a > 0 THEN b END AS x FROM silver.sold",
                vec![("a", Role::Conditional), ("b", Role::Transformation)],
            ),
            (
                "SELECT count(*) AS x FROM silver.sold WHERE a > 0 GROUP BY k",
                vec![("a", Role::Filter), ("k", Role::GroupBy)],
            ),
            (
                "SELECT sum(a + b) OVER (PARTITION BY k) AS x FROM silver.sold",
                vec![("a", Role::Aggregation), ("b", Role::Aggregation), ("k", Role::Window)],
            ),
            (
                "SELECT max(a) AS x FROM silver.sold WHERE k IN (SELECT b FROM silver.sold)",
                vec![("a", Role::Aggregation), ("b", Role::Filter), ("k", Role::Filter)],
            ),
            ("SELECT (SELECT max(b) FROM silver.sold) AS x", vec![("b", Role::Aggregation)]),
        ] {
            let frame = context.sql(sql).await.unwrap();
            let lineage = lineage(frame.logical_plan());
            let origins = lineage.columns["x"].iter();
            let found: Vec<_> = origins.map(|origin| (origin.field.as_str(), origin.role)).collect();
            assert_eq!(found, expected, "{sql}");
            assert!(lineage.columns["x"].iter().all(|origin| origin.table == "silver/sold"), "{sql}");
        }
    }
}
