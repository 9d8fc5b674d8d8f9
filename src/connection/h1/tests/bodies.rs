//! Bodies of requests: how they arrive, and who takes them.

use std::convert::Infallible;

use tokio::time::timeout;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_large_body_arrives_whole_and_the_next_request_behind_it() {
    let body = "0123456789".repeat(30_000);
    let chunked: String = body.as_bytes().chunks(7001).fold(String::new(), |all, chunk| {
        all + &format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap())
    });
    for (framing, content) in [
        (format!("Content-Length: {}", body.len()), body.clone()),
        ("Transfer-Encoding: chunked".to_owned(), chunked + "0\r\n\r\n"),
    ] {
        let next = "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let input = format!("POST /1 HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{content}{next}");
        let (output, seen) = dialogue(async |stream| exchange(stream, input.as_bytes()).await).await;
        assert_eq!(statuses(&output), [200, 200]);
        assert!(seen.calls == [format!("/1 {body}"), "/2 ".to_owned()], "{framing}");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_framing_in_a_body_cuts_the_body_off() {
    let head = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, reason) in [("3\r\nabc\r\n0x1\r\n", "bad-chunk-size"), ("3\r\nabcd\r\n0\r\n\r\n", "bad-chunk-end")] {
        let input = format!("{head}{body}GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
        let (output, seen) = dialogue(async |stream| exchange(stream, input.as_bytes()).await).await;
        assert_eq!(seen.calls, [format!("/1 cut off: {reason}")]);
        assert_eq!(seen.violation.map(Reason::code), Some(reason));
        assert!(output.contains("connection: close"), "{output}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_go_on_when_its_body_is_wanted() {
    let (output, seen) = dialogue(async |mut stream| {
        let head =
            b"PUT /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        exchange(stream, b"hi").await
    })
    .await;
    assert_eq!((statuses(&output), seen.calls), (vec![200], vec!["/1 hi".to_owned()]));
}

/// One request whose body another task takes.
async fn hand_over(input: &[u8], take: impl AsyncFnOnce(Source)) {
    with_sweep(async |sweep| {
        let (mut near, far) = duplex(64);
        let mut codec = codec(far, LIMITS, &sweep);
        let write = async {
            near.write_all(input).await.unwrap();
            near
        };
        let serve = async {
            let request = request(&mut codec).await;
            let (given, taken) = tokio::sync::oneshot::channel();
            let answer = async {
                let _ = given.send(request.into_body().expect("it has a body"));
                std::future::pending::<Infallible>().await
            };
            let taking = async { take(taken.await.unwrap()).await };
            // Two tasks in all but name: each is woken for itself.
            let mut both = futures_util::stream::FuturesUnordered::new();
            both.push(futures_util::future::Either::Left(async {
                let _broken = codec.during(pin!(answer)).await;
            }));
            both.push(futures_util::future::Either::Right(taking));
            futures_util::StreamExt::next(&mut both).await;
        };
        let (_open, ()) = tokio::join!(write, serve);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_taken_by_another_task() {
    let body = "x".repeat(5000);
    let input = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    hand_over(input.as_bytes(), async |source| {
        let all = timeout(Duration::from_secs(1), source.into_body().collect()).await.expect("it is woken");
        assert_eq!(all.unwrap().to_bytes(), body);
    })
    .await;
}
