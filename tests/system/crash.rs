//! Loads that are cut off: the same command again comes to the same end, whatever was cut.

use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    deployment::{DEMO, Deployment},
    report::differences,
};

const SEED: u64 = 1;

#[tokio::test]
async fn killed_at_any_moment_a_load_ends_as_if_undisturbed_on_sqlite() {
    kill_at_random(10, async || Deployment::embedded().of_events()).await;
}

#[tokio::test]
async fn killed_at_any_moment_a_load_ends_as_if_undisturbed_on_postgres() {
    kill_at_random(5, async || Deployment::postgres().await.of_events()).await;
}

/// Kills loads at so many random moments, and compares what they come to with a load that nobody disturbed.
async fn kill_at_random(kills: usize, deployment: impl AsyncFn() -> Deployment) {
    let undisturbed = deployment().await;
    let began = Instant::now();
    undisturbed.load().await;
    let duration = began.elapsed();
    let expected = undisturbed.verify().await;

    let mut chance = ChaCha8Rng::seed_from_u64(SEED);
    let mut left = kills;
    while left > 0 {
        // One directory takes kills until a load gets through between two of them.
        let disturbed = deployment().await;
        let mut moments = Vec::new();
        loop {
            let moment = duration.mul_f64(chance.random());
            let mut process = disturbed.up(&[&DEMO[..], &["--exit-when-ready"]].concat());
            if left == 0 || process.ends_within(moment).await {
                let ended = process.ended().await;
                assert_eq!(ended.code, Some(0), "after kills at {moments:?}: {}", ended.stderr);
                break;
            }
            process.kill().await;
            moments.push(moment);
            left -= 1;
        }
        assert_eq!(differences(&disturbed.verify().await, &expected), [""; 0], "after kills at {moments:?}");
    }
}

#[tokio::test]
async fn interrupted_a_load_ends_cleanly_and_the_next_one_completes_it() {
    let deployment = Deployment::embedded();
    for moment in ["build ", "USD", "ingest loyalty"] {
        let mut process = deployment.up(&DEMO);
        process.says(moment).await;
        let ended = process.stop("INT").await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!ended.stdout.contains("ready"), "interrupted at {moment:?}, it was not ready");
        assert!(!ended.stderr.contains("WARN"), "{}", ended.stderr);
    }
    deployment.load().await;
    deployment.verify().await;
}
