//! temporary
use crate::{sandbox::Sandbox, world};
#[tokio::test(flavor = "multi_thread")]
async fn perf() {
    let Some(d) = std::env::var_os("PERF").map(std::path::PathBuf::from) else { return };
    std::fs::create_dir_all(&d).unwrap();
    let s = Sandbox::open(&d).await;
    if std::env::var_os("PERF_LOAD").is_some() { world::perf(&s).await; return; }
    let t = std::time::Instant::now();
    s.export_then(s.root(), async {}).await;
    println!("export {:?}", t.elapsed());
    let t = std::time::Instant::now();
    for x in lake::summary(s.root()).await.unwrap() { println!("{x:?}"); }
    println!("summary {:?}", t.elapsed());
}
