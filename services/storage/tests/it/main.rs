//! The database on both engines: durability, groups, idempotency.

use std::{pin::pin, task::Poll};

use sqlx::{Executor, Row, migrate::Migrator};
use storage::{Config, Database, Error, Statement, insert_many, sqlx, testing};
use types::{Request, Timestamp};
use uuid::Uuid;

static NONE: Migrator = Migrator::DEFAULT;

async fn fresh() -> Vec<testing::TestDatabase> {
    let databases = testing::databases("order", &NONE).await;
    for test in &databases {
        let mut tx = test.database.begin().await.expect("begin");
        let connection = tx.connection().expect("open");
        connection.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, data BLOB)").await.expect("create");
        tx.commit().await.expect("commit");
    }
    databases
}

async fn count(database: &Database) -> i64 {
    let mut reader = database.reader().await.expect("reader");
    reader.fetch_one("SELECT count(*) FROM t").await.expect("count").get(0)
}

async fn insert(database: &Database, id: i64) -> Result<(), Error> {
    let mut tx = database.begin().await?;
    sqlx::query("INSERT INTO t (id, data) VALUES ($1, $2)")
        .bind(id)
        .bind(vec![1_u8])
        .execute(tx.connection()?)
        .await?;
    tx.commit().await
}

#[tokio::test]
async fn a_dropped_transaction_never_happened() {
    for test in fresh().await {
        let mut tx = test.database.begin().await.expect("begin");
        let connection = tx.connection().expect("open");
        connection.execute("INSERT INTO t (id) VALUES (1)").await.expect("insert");
        drop(tx);
        insert(&test.database, 2).await.expect("insert");
        assert_eq!(count(&test.database).await, 1);
    }
}

#[tokio::test]
async fn a_failed_transaction_does_not_take_its_neighbours_along() {
    for test in fresh().await {
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let database = test.database.clone();
                // Every tenth collides with its predecessor.
                let id = if n % 10 == 9 { n - 1 } else { n };
                tokio::spawn(async move { insert(&database, id).await.is_ok() })
            })
            .collect();
        let mut good = 0;
        for task in tasks {
            good += i64::from(task.await.expect("no panic"));
        }
        assert_eq!(good, 180);
        assert_eq!(count(&test.database).await, 180);
    }
}

/// Polls `work` that many times, then gives it up; what it came to if it ended before.
async fn poll_times<T>(times: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    for _ in 0..times {
        if let Poll::Ready(outcome) = futures::poll!(&mut work) {
            return Some(outcome);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn callers_that_go_away_leave_nothing_behind() {
    for test in fresh().await {
        let mut acknowledged = 0;
        for id in 0..300 {
            // Another one is in the same group, and what becomes of the first is not its business.
            let (database, other) = (test.database.clone(), 1000 + id);
            let other = tokio::spawn(async move { insert(&database, other).await });
            let outcome = poll_times(id as usize, insert(&test.database, id)).await;
            acknowledged += i64::from(outcome.is_some_and(|outcome| outcome.is_ok()));
            other.await.expect("no panic").expect("the other's transaction stands");
        }
        insert(&test.database, 300).await.expect("the database takes what comes after");
        assert!(count(&test.database).await >= 301 + acknowledged);
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    for test in fresh().await {
        insert(&test.database, 7).await.expect("insert");
        let again = Database::open(&test.config, "order", &NONE).await.expect("reopen");
        assert_eq!(count(&again).await, 1);
    }
}

#[tokio::test]
async fn many_rows_take_few_statements() {
    for test in fresh().await {
        let rows: Vec<i64> = (0..1000).collect();
        for expect in [1000, 0] {
            let mut tx = test.database.begin().await.expect("begin");
            let connection = tx.connection().expect("open");
            let written = insert_many(
                connection,
                "INSERT INTO t (id, data) VALUES",
                "ON CONFLICT DO NOTHING",
                &rows,
                |row, id| {
                    row.bind(*id).bind(None::<Vec<u8>>);
                },
            );
            assert_eq!(written.await.expect("insert"), expect);
            tx.commit().await.expect("commit");
        }
        let mut reader = test.database.reader().await.expect("reader");
        let mut statement = Statement::new("SELECT id FROM t WHERE id IN (");
        statement.bind_all([3_i64, 5, 2000]).push(") ORDER BY id");
        let found: Vec<i64> =
            statement.fetch_all(&mut reader).await.expect("select").iter().map(|row| row.get(0)).collect();
        assert_eq!(found, [3, 5]);
    }
}

#[tokio::test]
async fn a_request_id_returns_the_first_answer_again() {
    for test in fresh().await {
        let mut request = Request { method: "m", id: Some(Uuid::new_v4()), digest: [1; 32] };
        let mut tx = test.database.begin().await.expect("begin");
        assert_eq!(tx.remembered::<String>(&request).await.expect("read"), None);
        tx.remember(&request, &"first").await.expect("write");
        tx.commit().await.expect("commit");

        let mut tx = test.database.begin().await.expect("begin");
        assert_eq!(tx.remembered::<String>(&request).await.expect("read"), Some("first".to_owned()));
        request.digest = [2; 32];
        assert!(matches!(tx.remembered::<String>(&request).await, Err(Error::RequestIdReused(_))));
    }
}

#[tokio::test]
async fn old_answers_are_forgotten() {
    for test in fresh().await {
        let began = Timestamp::now();
        let requests: Vec<_> =
            (0..3).map(|_| Request { method: "m", id: Some(Uuid::new_v4()), digest: [1; 32] }).collect();
        let mut tx = test.database.begin().await.expect("begin");
        for request in &requests {
            tx.remember(request, &"answer").await.expect("write");
        }
        tx.commit().await.expect("commit");
        assert_eq!(test.database.forget_answers_before(began).await.expect("forget"), 0);
        let later = Timestamp::from_micros(Timestamp::now().micros() + 1);
        assert_eq!(test.database.forget_answers_before(later).await.expect("forget"), 3);
        let mut tx = test.database.begin().await.expect("begin");
        assert_eq!(tx.remembered::<String>(&requests[0]).await.expect("read"), None);
    }
}

#[tokio::test]
async fn a_bad_place_is_named() {
    let file = tempfile_path();
    for (url, expect) in [
        ("mysql://x".to_owned(), "`mysql://x` is no database URL"),
        (format!("sqlite:{}/x", file.display()), "cannot use the database directory"),
    ] {
        let error = Database::open(&Config { url }, "order", &NONE).await.expect_err("refused");
        assert!(error.to_string().contains(expect), "{error}");
    }
}

fn tempfile_path() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(Uuid::new_v4().to_string());
    std::fs::write(&path, "a file, not a directory").expect("write");
    path
}
