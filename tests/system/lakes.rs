//! `omnimesh lake`: what is wrong with what it is asked is said before anything is done.

use std::fs;

use crate::{deployment::Deployment, process::omnimesh};

#[tokio::test]
async fn a_lake_that_is_not_there_is_not_made() {
    let deployment = Deployment::embedded();
    let absent = deployment.path().join("absent");
    for data_dir in [deployment.path(), absent.as_path()] {
        for command in [
            &["status"][..],
            &["status", "--json"],
            &["run"],
            &["runs"],
            &["tag", "gold/dim_date", "train-1"],
            &["diff", "gold/dim_date@1", "gold/dim_date"],
            &["mirror", "gold/dim_date"],
            &["erase", "--key", "ada@example.com", "--dry-run"],
        ] {
            let path = data_dir.to_str().expect("a path in UTF-8");
            let ended = omnimesh([&["lake"], command, &["--data-dir", path]].concat()).await;
            assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
            let line = format!("omnimesh: there is no lake at {path}/lake: `omnimesh up` makes one; ");
            assert!(ended.stderr.starts_with(&line) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
        }
    }
    assert_eq!(fs::read_dir(deployment.path()).expect("a directory").count(), 0, "nothing was made");
}

#[tokio::test]
async fn a_place_where_no_lake_can_be_is_refused() {
    for place in ["memory://mirror", "ftp://host/mirror", "gs://bucket/mirror", ""] {
        let ended = omnimesh(["lake", "mirror", "gold/dim_date", "--out", place]).await;
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains(&format!("`{place}` is no place for a lake")), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn an_erasure_that_finds_nothing_says_so() {
    let deployment = Deployment::embedded();
    fs::create_dir_all(deployment.path().join("lake/bronze")).expect("a lake without tables");
    let path = deployment.path().to_str().expect("a path in UTF-8");
    for options in [&["--dry-run"][..], &[]] {
        let erase = ["lake", "erase", "--key", "nobody@example.com", "--data-dir", path];
        let ended = omnimesh([&erase[..], options].concat()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.starts_with("no row of any table held any of these keys"), "{}", ended.stdout);
    }
}
