//! Keys that a server of the issuer holds: fetched when they are needed, and anew when they grow old or are replaced.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::RemoteJwks;
use http::header::USER_AGENT;
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use tokio::sync::Mutex as AsyncMutex;

use super::keys::Keys;
use super::token::Token;
use crate::filter::Context;
use crate::grpc::own_request;
use crate::problem::{Path, Problem};
use crate::stats::{Counter, Scope};
use crate::upstream::{Cluster, Failure, Want};
use crate::value;

const LIFETIME: Duration = Duration::from_mins(10);
/// How long before their end keys are fetched anew behind the calls that use them.
const AHEAD: Duration = Duration::from_secs(5);
const FAILED_REFETCH: Duration = Duration::from_secs(1);
/// Tokens of unknown keys, which anybody can write, make the server be asked this often at most.
const ROTATION: Duration = Duration::from_secs(10);
const BACK_OFF: Duration = Duration::from_millis(25);
const LONGEST: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Remote {
    cluster: Arc<Cluster>,
    uri: Uri,
    timeout: Option<Duration>,
    lifetime: Duration,
    /// Keys are fetched ahead, behind the calls that use them; `None`: when they are needed.
    ahead: Option<Ahead>,
    retries: u32,
    back_off: Duration,
    longest_back_off: Duration,
    fetched: ArcSwapOption<Fetched>,
    /// When the server was asked last.
    asked: Mutex<Option<Instant>>,
    fetching: AsyncMutex<()>,
    success: Counter,
    failed: Counter,
}

#[derive(Clone, Copy, Debug)]
struct Ahead {
    failed_refetch: Duration,
}

#[derive(Debug)]
struct Fetched {
    keys: Arc<Keys>,
    at: Instant,
}

#[derive(Debug, thiserror::Error)]
enum Unfetched {
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("the server answered HTTP {0}")]
    Status(StatusCode),
    #[error("the answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer in time")]
    Late,
    #[error("the answer is no key set")]
    NoKeys,
}

impl Remote {
    pub(super) fn compile(
        config: &RemoteJwks,
        stats: &Scope,
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Problem> {
        let at_uri = at.field("http_uri");
        let http = config.http_uri.as_ref().ok_or_else(|| at_uri.problem("is required"))?;
        let uri = http.uri.parse::<Uri>().ok().filter(|uri| uri.authority().is_some());
        let name = match &http.http_upstream_type {
            Some(envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType::Cluster(name)) => name,
            None => return Err(at_uri.field("cluster").problem("is required")),
        };
        let cluster = context.clusters.get(name).cloned();
        let retry = config.retry_policy.as_ref();
        let back_off = retry.and_then(|retry| retry.retry_back_off.as_ref());
        let base =
            value::limit(back_off.and_then(|off| off.base_interval.as_ref()), None).unwrap_or(BACK_OFF);
        Ok(Self {
            cluster: cluster
                .ok_or_else(|| at_uri.field("cluster").problem(format!("there is no cluster {name}")))?,
            uri: uri.ok_or_else(|| {
                at_uri.field("uri").problem("must be http://HOST/PATH or https://HOST/PATH")
            })?,
            timeout: value::limit(http.timeout.as_ref(), None),
            lifetime: config.cache_duration.as_ref().map_or(LIFETIME, value::duration),
            ahead: config.async_fetch.as_ref().map(|ahead| Ahead {
                failed_refetch: value::limit(ahead.failed_refetch_duration.as_ref(), None)
                    .unwrap_or(FAILED_REFETCH),
            }),
            retries: retry.map_or(0, |retry| value::number(retry.num_retries.as_ref(), 1)),
            back_off: base,
            longest_back_off: value::limit(back_off.and_then(|off| off.max_interval.as_ref()), None)
                .unwrap_or(base * 10),
            fetched: ArcSwapOption::empty(),
            asked: Mutex::new(None),
            fetching: AsyncMutex::new(()),
            success: stats.counter("jwks_fetch_success"),
            failed: stats.counter("jwks_fetch_failed"),
        })
    }

    /// The keys that may be used now.
    pub(super) fn keys(&self) -> Option<Arc<Keys>> {
        let fetched = self.fetched.load();
        let fetched = fetched.as_ref()?;
        let usable = self.ahead.is_some() || fetched.at.elapsed() < self.lifetime;
        usable.then(|| Arc::clone(&fetched.keys))
    }

    /// Whether a token's keys have to be asked for before it can be judged.
    pub(super) fn lacks(&self, token: &Token) -> bool {
        match self.keys() {
            None => true,
            Some(keys) => !keys.knows(token) && self.since_asked() >= ROTATION,
        }
    }

    /// Asks for keys that will soon be old, while the present ones go on being used.
    pub(super) fn keep_fresh(self: &Arc<Self>) {
        let Some(ahead) = self.ahead else { return };
        let age = self.fetched.load().as_ref().map(|fetched| fetched.at.elapsed());
        if age.is_some_and(|age| age + AHEAD >= self.lifetime)
            && self.since_asked() >= ahead.failed_refetch.min(self.lifetime)
            && self.fetching.try_lock().is_ok()
        {
            let remote = Arc::clone(self);
            tokio::spawn(async move { remote.fetch().await });
        }
    }

    /// Asks for the keys. Of those who want them at a time one asks; what the others find is as new as they wanted it.
    pub(super) async fn fetch(&self) {
        let wanted = Instant::now();
        let _one = self.fetching.lock().await;
        if self.asked().is_some_and(|asked| asked >= wanted) {
            return;
        }
        let mut pause = self.back_off;
        for attempt in 0..=self.retries {
            match self.ask().await {
                Ok(keys) => {
                    self.success.inc();
                    let keys = Arc::new(keys);
                    self.fetched.store(Some(Arc::new(Fetched { keys, at: Instant::now() })));
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, uri = %self.uri, "cannot fetch the keys of an issuer");
                    if attempt == self.retries {
                        self.failed.inc();
                    } else {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(self.longest_back_off);
                    }
                }
            }
        }
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    async fn ask(&self) -> Result<Keys, Unfetched> {
        let mut request = own_request(Method::GET, self.uri.clone(), self.timeout, Bytes::new());
        // Servers of keys are known to refuse clients without one, and know Envoy by this.
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("Go-browser"));
        let want = Want { random: rand::random(), ..Want::default() };
        let asked = async {
            let answered = self.cluster.call(Box::new(request), &want).await?;
            answered.host.answered(answered.head.status.as_u16());
            if answered.head.status != StatusCode::OK {
                return Err(Unfetched::Status(answered.head.status));
            }
            let body = Limited::new(answered.body, LONGEST).collect().await.map_err(Unfetched::Body)?;
            Keys::parse(&body.to_bytes()).ok_or(Unfetched::NoKeys)
        };
        match self.timeout {
            Some(timeout) => tokio::time::timeout(timeout, asked).await.unwrap_or(Err(Unfetched::Late)),
            None => asked.await,
        }
    }

    fn asked(&self) -> Option<Instant> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_asked(&self) -> Duration {
        self.asked().map_or(Duration::MAX, |asked| asked.elapsed())
    }
}
