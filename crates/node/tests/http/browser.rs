//! The page in a real browser: `chromium` of Debian, without a head. `cluster/local/test` installs it and runs these.
//!
//! `cargo test -p node --test http -- --ignored`; with `STATUS_PNG=FILE` the picture of the README is made anew.

use crate::Port;
use crate::sample;
use node::http::View;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a browser makes of the page, after a while.
async fn chromium(arguments: &[&str], address: SocketAddr) -> String {
    let profile = tempfile::tempdir().expect("a folder");
    let mut browser = Command::new("chromium");
    browser
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=4000", "--timeout=20000"])
        .args(arguments)
        .arg(format!("http://{address}/"))
        .stderr(Stdio::null());
    let output = tokio::task::spawn_blocking(move || browser.output()).await.expect("no panic");
    let output = output.expect("chromium is installed");
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn a_browser_draws_tasks_paths_and_nodes() {
    let port = Port::new(View::at_once(sample::cluster), Ok(())).await;
    let seen = chromium(&["--dump-dom"], port.client.address()).await;
    for expected in [
        "Task billing waits for a person.",
        "was removed on db1",
        "task reseed billing",
        "Reader, Decoder, Router on w1 → 2 lanes on w1 → 3 lanes on w2 → 3 lanes on w3 → Kafka",
        "Reader on w1 → Decoder, Router on w2",
        "coordinator, leads",
        "16/B3748A0",
    ] {
        assert!(seen.contains(expected), "{expected}\n{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn a_browser_runs_nothing_that_a_name_says() {
    let port = Port::new(View::at_once(sample::hostile), Ok(())).await;
    let seen = chromium(&["--dump-dom"], port.client.address()).await;
    assert!(seen.contains("&lt;script&gt;document.title="), "{seen}");
    assert!(!seen.contains("<title>owned</title>"), "{seen}");
    assert!(!seen.contains("<img"), "{seen}");
    assert_eq!(seen.matches("<script").count(), 1, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium, and makes pictures"]
async fn a_browser_makes_the_picture_of_the_readme() {
    let Ok(path) = std::env::var("STATUS_PNG") else { return };
    let port = Port::new(View::at_once(sample::cluster), Ok(())).await;
    let address = with_an_hour(port.client.address()).await;
    let size = std::env::var("STATUS_SIZE").unwrap_or_else(|_| "1280,1690".into());
    let dark = if std::env::var_os("STATUS_DARK").is_some() { "1" } else { "0" };
    let dark = format!("--blink-settings=preferredColorScheme={dark}");
    let size = format!("--window-size={size}");
    chromium(&[&format!("--screenshot={path}"), &size, &dark], address).await;
    assert!(std::fs::metadata(path).is_ok_and(|it| 10_000 < it.len()));
}

/// The same port as if it had been looked at for an hour.
async fn with_an_hour(behind: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut browser, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let read = browser.read(&mut head).await.unwrap_or(0);
                if head.starts_with(b"GET /api/history") {
                    let body = an_hour().to_string();
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
                    let length = body.len();
                    let answer = format!(
                        "{head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                    );
                    let _ = browser.write_all(answer.as_bytes()).await;
                    return;
                }
                let Ok(mut node) = TcpStream::connect(behind).await else { return };
                // A connection that stayed open would carry the next request, too.
                let head = String::from_utf8_lossy(&head[..read]).replace("keep-alive", "close");
                if node.write_all(head.as_bytes()).await.is_ok() {
                    let _ = tokio::io::copy_bidirectional(&mut browser, &mut node).await;
                }
            });
        }
    });
    address
}

/// Of two tasks: one with a bad minute, one that was away for a while and has trouble now.
fn an_hour() -> serde_json::Value {
    let rounds: Vec<_> = (0..360u32)
        .map(|round| {
            let x = f64::from(round);
            let wave = (x / 31.0).sin() + 0.6 * (x / 7.3).sin() + 0.25 * (x * 1.7).sin();
            let rate = (17_500.0 + 3_000.0 * wave).round();
            let spike = if (201..206).contains(&round) { 240.0 } else { 0.0 };
            let latency = (36.0 + 7.0 * wave + spike).round();
            let mut tasks = serde_json::json!({"shop": [latency, rate, 21504]});
            if !(150..190).contains(&round) {
                let late = if 356 < round { (x - 356.0) * 7_000.0 } else { 55.0 + 9.0 * wave };
                tasks["search"] = serde_json::json!([late, (40.0 + 20.0 * wave).max(0.0), 9]);
            }
            let at = 1_764_000_000_000_u64 - u64::from(359 - round) * 10_000;
            serde_json::json!({"round": round + 1, "at_unix_ms": at, "tasks": tasks})
        })
        .collect();
    serde_json::json!({"every_ms": 10_000, "rounds_max": 360, "rounds": rounds})
}
