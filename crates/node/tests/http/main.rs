//! The HTTP port of a node, asked as probes, Prometheus, browsers and strangers do.

mod authority;
mod browser;
mod client;
mod sample;

use authority::Authority;
use client::{Answer, Client};
use node::http::{Ready, Server, View};
use rpc::{Code, Error, Tokens};
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A node's port; it ends with the value.
struct Port {
    client: Client,
    _ends: DropGuard,
}

impl Port {
    async fn new(view: View, ready: Result<(), String>) -> Self {
        Self::with(view, ready, None).await
    }

    async fn with(view: View, ready: Result<(), String>, tokens: Option<Tokens>) -> Self {
        let server = Server::bind("127.0.0.1:0", None, tokens).await.expect("a free port");
        let client = Client::plain(server.address());
        let (stop, ready) = (CancellationToken::new(), Ready::at_once(move || ready.clone()));
        tokio::spawn(server.serve(view, ready, stop.clone().cancelled_owned()));
        Self { client, _ends: stop.drop_guard() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.client.get(path, &[]).await
    }
}

async fn sample() -> Port {
    Port::new(View::at_once(sample::cluster), Ok(())).await
}

/// Of `a`, as its hash.
fn tokens() -> Tokens {
    let text = "tokens:
- {name: ann, role: viewer, sha256: ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb}
";
    Tokens::new(&config::Tokens::parse(text).expect("parses"))
}

#[tokio::test]
async fn probes_learn_whether_the_node_lives_and_can_work() {
    let port = sample().await;
    let answer = port.get("/healthz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    let answer = port.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));

    let port = Port::new(View::at_once(sample::cluster), Err("not joined".into())).await;
    assert_eq!(port.get("/healthz").await.status, 200);
    let answer = port.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "not joined\n"));
    assert!(port.get("/metrics").await.body.contains("distributary_node_ready 0\n"));
}

#[tokio::test]
async fn the_status_has_the_shape_that_the_page_draws() {
    let answer = sample().await.get("/api/status").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let status: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((&status["leader"], &status["term"]), (&"c2".into(), &1042.into()));
    let shop = &status["tasks"][0];
    assert_eq!((&shop["name"], &shop["state"]), (&"shop".into(), &"synchronizing".into()));
    assert_eq!(shop["measured"]["watermark"], "16/B3748A0");
    assert_eq!(shop["measured"]["latency_ms"], 38);
    assert_eq!(shop["lanes"].as_array().map(Vec::len), Some(8));
    assert_eq!(shop["lanes"][7]["node"], "w3");
    assert_eq!(shop["source"]["title"], "shop");
    let parked = &status["tasks"][2];
    assert!(parked["cause"].as_str().is_some_and(|cause| cause.contains("was removed")));
    assert!(parked["remedy"].as_str().is_some_and(|remedy| remedy.contains("task reseed")));
    assert_eq!(status["members"].as_array().map(Vec::len), Some(6));
}

#[tokio::test]
async fn the_last_hour_begins_with_the_first_look() {
    let port = sample().await;
    let rounds = async |path: &str| {
        let past: serde_json::Value =
            serde_json::from_str(&port.get(path).await.body).expect("JSON");
        past["rounds"].as_array().cloned().expect("a list")
    };
    let first = loop {
        match rounds("/api/history").await.pop() {
            Some(first) => break first,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(first["round"], 1);
    assert_eq!(first["tasks"]["shop"], serde_json::json!([38, 18_250.0, 21_504]));
    assert!(rounds("/api/history?since=1").await.is_empty());
    assert_eq!(port.get("/api/history?since=soon").await.status, 400);
}

#[tokio::test]
async fn metrics_are_what_prometheus_reads() {
    let answer = sample().await.get("/metrics").await;
    let content_type = answer.header("content-type").expect("a type");
    assert!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
    assert!(answer.body.ends_with("# EOF\n"));
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a series and its value");
        assert!(series.starts_with("distributary_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    for expected in [
        "distributary_cluster_term 1042",
        "distributary_cluster_leader{leader=\"c2\"} 1",
        "distributary_cluster_members{role=\"worker\",state=\"alive\"} 2",
        "distributary_task_state{task=\"shop\",state=\"synchronizing\"} 1",
        "distributary_task_state{task=\"shop\",state=\"parked\"} 0",
        "distributary_task_state{task=\"billing\",state=\"parked\"} 1",
        "distributary_task_lanes{task=\"shop\",state=\"running\"} 8",
        "distributary_task_latency_seconds{task=\"shop\"} 0.038",
        "distributary_task_records_total{task=\"shop\"} 418812345",
        "distributary_task_lag_bytes{task=\"shop\"} 21504",
    ] {
        assert!(answer.body.lines().any(|line| line == expected), "{expected}\n{}", answer.body);
    }
}

#[tokio::test]
async fn the_page_may_run_nothing_but_its_own_script() {
    let answer = sample().await.get("/").await;
    let policy = answer.header("content-security-policy").expect("a policy");
    for part in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(policy.matches("'sha256-").count(), 2);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    // Nothing is loaded from anywhere, and data never become markup.
    for banned in ["src=", "@import", "innerHTML", "outerHTML", "insertAdjacent", "document.write"]
    {
        assert!(!answer.body.contains(banned), "{banned}");
    }
    let links = answer.body.matches("http").count();
    assert_eq!(links, answer.body.matches("http://www.w3.org/2000/svg").count());
}

#[tokio::test]
async fn hostile_names_are_data_everywhere() {
    let port = Port::new(View::at_once(sample::hostile), Ok(())).await;
    assert!(!port.get("/").await.body.contains(sample::HOSTILE));
    let answer = port.get("/api/status").await;
    let headers = ["content-type", "x-content-type-options"].map(|name| answer.header(name));
    assert_eq!(headers, [Some("application/json"), Some("nosniff")]);
    let status: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(status["tasks"][0]["name"], sample::HOSTILE);
    let answer = port.get("/metrics").await;
    assert!(answer.header("content-type").is_some_and(|it| !it.contains("html")));
}

#[tokio::test]
async fn without_a_token_only_probes_are_answered() {
    let port = Port::with(View::at_once(sample::cluster), Ok(()), Some(tokens())).await;
    for path in ["/", "/api/status", "/api/history", "/metrics", "/nothing"] {
        let answer = port.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.header("www-authenticate").is_some_and(|it| it.starts_with("Basic")));
        assert!(!answer.body.contains("shop"));
        for wrong in ["Bearer b", "Bearer ", "Basic YTpi", "Digest a"] {
            let answer = port.client.get(path, &[("authorization", wrong)]).await;
            assert_eq!(answer.status, 401, "{path} {wrong}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(port.get(path).await.status, 200);
    }
    // `whoever:a`
    for right in ["Bearer a", "Basic d2hvZXZlcjph"] {
        for path in ["/", "/api/status", "/metrics"] {
            let answer = port.client.get(path, &[("authorization", right)]).await;
            assert_eq!(answer.status, 200, "{path} {right}");
        }
    }
}

#[tokio::test]
async fn a_page_of_another_site_cannot_ask_under_its_own_name() {
    let port = sample().await;
    for (host, status) in [("localhost:7421", 200), ("[::1]", 200), ("evil.example", 421)] {
        let answer = port.client.get("/api/status", &[("host", host)]).await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let port = sample().await;
    assert_eq!(port.get("/etc/passwd").await.status, 404);
    assert_eq!(port.client.send("POST", "/api/status", &[]).await.status, 405);

    let gone = || async { Err(Error::new(Code::Unreachable, "it ends", "ask another one")) };
    let port = Port::new(View::new(gone), Ok(())).await;
    let answer = port.get("/api/status").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, r#"{"cause":"it ends","remedy":"ask another one"}"#);
    assert!(port.get("/metrics").await.body.contains("distributary_node_ready 1\n"));
}

#[tokio::test]
async fn many_who_look_ask_the_node_once() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let looked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&looked);
    let view = View::at_once(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        sample::cluster()
    });
    let port = Port::new(view, Ok(())).await;
    for _ in 0..20 {
        assert_eq!(port.get("/api/status").await.status, 200);
    }
    // One for the hour, and one a second for all the others.
    let looked = looked.load(Ordering::Relaxed);
    assert!((1..=4).contains(&looked), "{looked}");
}

#[tokio::test]
async fn off_loopback_nothing_listens_without_tls_and_tokens() {
    let tls = Authority::new().node("w1");
    for (tls, tokens, missing) in [
        (None, None, "`tls`"),
        (None, Some(tokens()), "`tls`"),
        (Some(tls.clone()), None, "`auth`"),
    ] {
        let refused = Server::bind("0.0.0.0:0", tls, tokens).await.expect_err("it is open");
        assert!(refused.cause.contains(missing), "{refused}");
    }
    assert!(Server::bind("0.0.0.0:0", Some(tls), Some(tokens())).await.is_ok());
}

#[tokio::test]
async fn with_tls_it_speaks_both_versions_of_http_to_clients_without_a_certificate() {
    let authority = Authority::new();
    let server =
        Server::bind("127.0.0.1:0", Some(authority.node("w1")), None).await.expect("a free port");
    let address = server.address();
    let stop = CancellationToken::new();
    let view = View::at_once(sample::cluster);
    let serving =
        tokio::spawn(server.serve(view, Ready::at_once(|| Ok(())), stop.clone().cancelled_owned()));

    let client = Client::tls(address, authority.trusting(&[b"http/1.1"]));
    assert_eq!(client.get("/readyz", &[]).await.status, 200);
    // The first frame of HTTP/2 are the server's settings.
    let greeting = Client::tls(address, authority.trusting(&[b"h2"])).greet_http2().await;
    assert_eq!(greeting[3], 4, "{greeting:?}");
    let refused = Client::plain(address).try_get("/readyz").await;
    assert!(refused.is_none_or(|answer| answer.status != 200));

    stop.cancel();
    serving.await.expect("it ends in time");
}
