//! How responses are framed and how they end, and what becomes of the connection behind them.

use tokio::time::{sleep, timeout};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_not_ended() {
    let (output, seen) = dialogue(async |stream| exchange(stream, b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n").await).await;
    assert!(output.ends_with("\r\n\r\n6\r\na part\r\n"), "{output}");
    assert_eq!(seen.end, Some(Broken::Cut));
}

#[tokio::test(start_paused = true)]
async fn responses_are_framed_as_the_client_knows_it() {
    let request =
        |path: &str, version: &str, fields: &str| format!("GET {path} HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
    let all = [
        request("/known", "1.0", "Connection: keep-alive\r\n"),
        request("/unknown", "1.1", "TE: trailers\r\n"),
        request("/unknown", "1.1", ""),
        request("/known", "1.1", "").replace("GET", "HEAD"),
        request("/unknown", "1.0", "Connection: keep-alive\r\n"),
        request("/known", "1.1", ""),
    ];
    let (output, seen) = dialogue(async |stream| exchange(stream, all.concat().as_bytes()).await).await;
    let bodies: Vec<_> = output.split("HTTP/1.").skip(1).map(|all| all.split_once("\r\n\r\n").unwrap().1).collect();
    let chunked = "3\r\nall\r\n0\r\n";
    let with_trailers = format!("{chunked}x-sum: 1\r\n\r\n");
    assert_eq!(bodies, ["all", &with_trailers, &format!("{chunked}\r\n"), "", "all"], "{output}");
    assert_eq!(output.matches("connection: keep-alive").count(), 1);
    assert_eq!(seen.calls.len(), 5, "the end of a body of unknown length is the end of the connection");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_it_waits_is_noticed() {
    let (_, seen) = dialogue(async |mut stream| {
        stream.write_all(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    assert_eq!((seen.calls, seen.end), (vec!["/waits ".to_owned()], Some(Broken::Gone)));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sends_while_it_waits_is_bounded() {
    for head in
        ["GET /waits HTTP/1.1\r\nHost: a\r\n\r\n", "POST /waits HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"]
    {
        let flooding = dialogue(async |mut stream| {
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&[b'x'; 1024 * 1024]).await
        });
        assert!(timeout(Duration::from_secs(60), flooding).await.is_err(), "all was read");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_takes_ends_the_connection_behind_its_response() {
    with_sweep(async |sweep| {
        let (mut near, far) = duplex(1024);
        let mut codec = codec(far, LIMITS, &sweep);
        near.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\na part").await.unwrap();
        drop(request(&mut codec).await);
        let more = codec.respond(Response::new(()).into_parts().0, &mut None, false, STAMP).await;
        assert_eq!(more, Ok(false));
        drop(codec);
        assert!(rest(near).await.contains("connection: close"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_carries_what_came_early_and_then_the_stream() {
    with_sweep(async |sweep| {
        let (mut near, far) = duplex(1024);
        let mut codec = codec(far, LIMITS, &sweep);
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        near.write_all(&[head, &b"\0early"[..]].concat()).await.unwrap();
        request(&mut codec).await;
        assert!(codec.may_tunnel());
        let mut stream = codec.into_tunnel();
        near.write_all(b" and late").await.unwrap();
        near.shutdown().await.unwrap();
        let mut carried = Vec::new();
        stream.read_to_end(&mut carried).await.unwrap();
        assert_eq!(carried, b"\0early and late");
        stream.write_all(b"back").await.unwrap();
        near.read_exact(&mut [0; 4]).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_is_not_granted_ends_the_connection_after_its_response() {
    let input =
        b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let (output, seen) = dialogue(async |stream| exchange(stream, input).await).await;
    assert_eq!((statuses(&output), seen.calls), (vec![200], vec!["/1 ".to_owned()]));
    assert!(output.contains("connection: close") && seen.end.is_none());
}
