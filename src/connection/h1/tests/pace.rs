//! How long a client may take, to send and to be sent to.

use tokio::time::sleep;

use super::*;
use crate::pace::Stalled;

#[tokio::test(start_paused = true)]
async fn a_head_has_one_limit_from_its_first_byte() {
    let (took, seen) = dialogue(async |mut stream| {
        sleep(Duration::from_secs(10)).await;
        let start = Instant::now();
        for byte in b"GET / HTTP" {
            stream.write_all(&[*byte]).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(statuses(&rest(stream).await), [408]);
        took(start, LIMITS.header_timeout)
    })
    .await;
    assert!(took);
    assert_eq!(seen.calls, ["refused: header-timeout"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_closed_without_an_answer() {
    for input in ["", "\r\n", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let (took, seen) = dialogue(async |stream| {
            let start = Instant::now();
            let answers = statuses(&exchange(stream, input.as_bytes()).await).len();
            assert_eq!(answers, usize::from(input.len() > 2));
            took(start, LIMITS.idle_timeout)
        })
        .await;
        assert!(took && seen.end.is_none() && !seen.calls.contains(&"refused".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_slow_and_not_silent() {
    let (took, seen) = dialogue(async |mut stream| {
        stream.write_all(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").await.unwrap();
        for _ in 0..8 {
            sleep(Duration::from_secs(4)).await;
            stream.write_all(b"a").await.unwrap();
        }
        let start = Instant::now();
        rest(stream).await;
        took_a_little_longer(start, LIMITS.body.silence)
    })
    .await;
    assert!(took);
    assert_eq!(seen.calls, ["/1 cut off: body-read-timeout"]);
}

/// C2: what frames the data is none.
#[tokio::test(start_paused = true)]
async fn framing_alone_does_not_stand_for_a_body() {
    for dribble in [&b"0"[..], b"1;xxxxxxxxxxxxxxxxxxxxxxxx", b"0\r\na: xxxxxxxxxxxxxxxxxxxx"] {
        let (took, seen) = dialogue(async |mut stream| {
            stream.write_all(b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            let start = Instant::now();
            for byte in dribble.iter().cycle().take(10) {
                stream.write_all(&[*byte]).await.unwrap();
                sleep(Duration::from_millis(450)).await;
            }
            rest(stream).await;
            took_a_little_longer(start, LIMITS.body.silence)
        })
        .await;
        assert!(took, "{}", dribble.escape_ascii());
        assert_eq!(seen.calls, ["/1 cut off: body-read-timeout"], "{}", dribble.escape_ascii());
    }
}

const PACED: Limits = Limits {
    body: Terms { silence: Duration::from_secs(5), rate_min: 100 },
    sending: Terms { silence: Duration::from_secs(10), rate_min: 100 },
    ..LIMITS
};

/// C2: a byte now and then is not silence, and no upload either.
#[tokio::test(start_paused = true)]
async fn a_body_keeps_the_lowest_rate() {
    for (bytes, expected) in [(90, "/1 cut off: body-too-slow"), (110, "/1 ")] {
        let ((), seen) = dialogue_within(PACED, async |mut stream| {
            let piece = vec![b'a'; bytes];
            let head = format!("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 30 * bytes);
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..30 {
                sleep(Duration::from_secs(1)).await;
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
            }
        })
        .await;
        assert!(seen.calls[0].starts_with(expected), "{bytes}: {:?}", seen.calls);
    }
}

/// C3: who takes a byte now and then holds the response as if it took none.
#[tokio::test(start_paused = true)]
async fn a_response_is_taken_at_the_lowest_rate() {
    for (bytes, end) in [(90, Some(Broken::Stalled(Stalled::TooSlow))), (20_000, None)] {
        let ((), seen) = dialogue_within(PACED, async |mut stream| {
            stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut room = vec![0; bytes];
            let mut pace = tokio::time::interval(Duration::from_secs(1));
            while stream.read(&mut room).await.is_ok_and(|bytes| bytes > 0) {
                pace.tick().await;
            }
        })
        .await;
        assert_eq!(seen.end, end, "{bytes} bytes a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_may_be_read_slowly_and_not_never() {
    let (_, seen) = dialogue(async |mut stream| {
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        for _ in 0..5 {
            sleep(Duration::from_secs(9)).await;
            stream.read_exact(&mut [0; 1024]).await.unwrap();
        }
        sleep(LIMITS.sending.silence * 5 / 4 + 5 * TICK).await;
    })
    .await;
    assert_eq!(seen.end, Some(Broken::Stalled(Stalled::Silent)));
}
