//! Loads that are cut off: the same command again comes to the same end, whatever was cut.

use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    deployment::{DEMO, Deployment},
    report::differences,
};

const KILLS: usize = 10;
const SEED: u64 = 1;

#[tokio::test]
async fn killed_at_any_moment_a_load_ends_as_if_undisturbed() {
    let undisturbed = Deployment::embedded();
    let began = Instant::now();
    undisturbed.load().await;
    let duration = began.elapsed();
    let expected = undisturbed.verify().await;

    let mut chance = ChaCha8Rng::seed_from_u64(SEED);
    let mut kills = 0;
    while kills < KILLS {
        // One directory takes kills until a load gets through between two of them.
        let mesh = Deployment::embedded();
        let mut moments = Vec::new();
        loop {
            let moment = duration.mul_f64(chance.random());
            let mut process = mesh.up(&[&DEMO[..], &["--exit-when-ready"]].concat());
            if kills == KILLS || process.ends_within(moment).await {
                assert_eq!(process.ended().await.code, Some(0), "after kills at {moments:?}");
                break;
            }
            process.kill().await;
            moments.push(moment);
            kills += 1;
        }
        assert_eq!(differences(&mesh.verify().await, &expected), [""; 0], "after kills at {moments:?}");
    }
}

#[tokio::test]
async fn interrupted_a_load_ends_cleanly_and_the_next_one_completes_it() {
    let mesh = Deployment::embedded();
    for moment in ["build ", "USD", "ingest loyalty"] {
        let mut process = mesh.up(&DEMO);
        process.says(moment).await;
        let ended = process.stop("INT").await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stdout.contains("ready"), "interrupted at {moment:?}, it was not ready");
        assert!(!ended.stderr.contains("WARN"), "{}", ended.stderr);
    }
    mesh.load().await;
    mesh.verify().await;
}
