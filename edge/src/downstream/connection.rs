//! One client connection: its handshake, its HTTP, and the clocks that end it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::CodecType;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use crate::call::Connection;
use crate::downstream::flush::Streams;
use crate::downstream::hcm::Hcm;
use crate::downstream::pulse::{Expired, GOODBYE, Pulse};
use crate::downstream::watched::Watched;
use crate::drain::Drain;
use crate::proxy;

/// Serves HTTP on a stream until either side is done with it.
pub(crate) async fn serve<S>(stream: S, chain: Arc<ArcSwap<Hcm>>, connection: Arc<Connection>, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let hcm = chain.load_full();
    hcm.stats.connections.inc();
    hcm.stats.connections_active.add(1);
    let tls = connection.tls.is_some();
    hcm.stats.tls.add(tls.into());
    hcm.stats.tls_active.add(tls.into());
    let pulse = Arc::new(Pulse::new());
    let io = TokioIo::new(Watched::new(stream, &pulse, &hcm));
    let service = {
        let (chain, pulse, drain) = (Arc::clone(&chain), Arc::clone(&pulse), drain.clone());
        service_fn(move |request| {
            // Boxed: what runs a stream moves its call from place to place.
            Box::pin(proxy::serve(
                chain.load_full(),
                Arc::clone(&connection),
                Arc::clone(&pulse),
                drain.clone(),
                request,
            ))
        })
    };
    let builder = builder(&hcm);
    let serving = builder.serve_connection_with_upgrades(io, service);
    tokio::pin!(serving);
    let mut leaving = false;
    let clock = sleep(Duration::ZERO);
    tokio::pin!(clock);
    let mut cut = None;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended badly");
                }
                break;
            }
            () = drain.begun(), if !leaving => {
                leaving = true;
                serving.as_mut().graceful_shutdown();
                // The clock now has an end to look at.
                clock.as_mut().reset(tokio::time::Instant::now());
            }
            abused = pulse.dismissed() => {
                if abused {
                    break;
                }
                if !leaving {
                    leaving = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
            () = clock.as_mut() => {
                let now = Instant::now();
                let end = cut.into_iter().chain(drain.end()).min();
                if end.is_some_and(|at| now >= at) {
                    break;
                }
                let hcm = chain.load();
                let next = match pulse.check(&hcm) {
                    Ok(next) => next,
                    Err(expired) => {
                        if !pulse.may_answer(expired, &hcm) {
                            break;
                        }
                        if !leaving && expired != Expired::SlowHead {
                            leaving = true;
                            serving.as_mut().graceful_shutdown();
                        }
                        if expired == Expired::Idle {
                            cut.get_or_insert(now + GOODBYE);
                        }
                        GOODBYE
                    }
                };
                let next = end.map_or(next, |at| next.min(at - now));
                clock.as_mut().reset((now + next).into());
            }
        }
    }
    pulse.tunnels.close();
    pulse.tunnels.wait().await;
    pulse.ended(&hcm);
    hcm.stats.tls_active.add(-i64::from(tls));
}

fn builder(hcm: &Hcm) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size((hcm.limits.headers_kb as usize * 1024).max(8192))
        .max_headers(hcm.limits.headers_count as usize);
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(hcm.http2.max_concurrent_streams)
        .initial_stream_window_size(hcm.http2.stream_window)
        .initial_connection_window_size(hcm.http2.connection_window)
        .max_header_list_size(hcm.limits.headers_kb * 1024)
        .max_send_buf_size(64 << 10)
        .enable_connect_protocol();
    if let Some((interval, timeout)) = hcm.http2.keepalive {
        http2.keep_alive_interval(interval).keep_alive_timeout(timeout);
    }
    match hcm.codec {
        CodecType::Http1 => builder.http1_only(),
        CodecType::Http2 => builder.http2_only(),
        _ => builder,
    }
}
