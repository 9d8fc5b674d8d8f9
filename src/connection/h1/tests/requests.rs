//! Which requests are read, and what each is answered with.

use proptest::prelude::*;
use tokio::time::sleep;

use super::*;
use crate::guard::client_bytes;
use crate::timers::Deadline;

#[tokio::test(start_paused = true)]
async fn requests_before_a_bad_one_are_answered_first_and_those_after_it_never() {
    let input = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\
        GET /3 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n\
        GET /4 HTTP/1.1\r\nHost: a\r\n\r\n";
    let (output, seen) = dialogue(async |stream| exchange(stream, input).await).await;
    assert_eq!(statuses(&output), [200, 200, 400]);
    assert_eq!(seen.calls, ["/1 ", "/2 hi", "refused: host-repeated"]);
    assert_eq!((output.matches("connection: close").count(), seen.end), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_byte_by_byte_is_the_same_request() {
    let input =
        b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n\
        GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (output, seen) = dialogue(async |mut stream| {
        for byte in input {
            stream.write_all(&[*byte]).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
        rest(stream).await
    })
    .await;
    assert_eq!((statuses(&output), seen.calls), (vec![200, 200], vec!["/1 abcde".to_owned(), "/2 ".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_head_larger_than_one_read_passes() {
    let mut input = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".to_vec();
    for _ in 0..10 {
        input.extend([&b"X: "[..], &[b'y'; 3000], b"\r\n"].concat());
    }
    input.extend(b"\r\n");
    let (output, _) = dialogue(async |stream| exchange(stream, &input).await).await;
    assert_eq!(statuses(&output), [200]);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sends_after_its_refusal_is_thrown_away() {
    let (output, seen) = dialogue(async |mut stream| {
        stream.write_all(b"\0").await.unwrap();
        for _ in 0..100 {
            stream.write_all(&[b'x'; 1000]).await.unwrap();
        }
        rest(stream).await
    })
    .await;
    assert_eq!((statuses(&output), seen.calls), (vec![400], vec!["refused: bad-method".to_owned()]));
}

/// Told to end, a connection finishes what has begun.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_to_end_reads_what_has_come() {
    with_sweep(async |sweep| {
        let (mut near, far) = duplex(1024);
        let mut codec = codec(far, LIMITS, &sweep);
        near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HT").await.unwrap();
        let next = codec.next(&mut Request::new(None), &mut |_| true).await;
        assert!(matches!(next, Next::Request));
        let rest = async {
            sleep(Duration::from_secs(1)).await;
            near.write_all(b"TP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        };
        let mut is_last = |_: &mut Context<'_>| true;
        let mut request = Request::new(None);
        let (next, ()) = tokio::join!(codec.next(&mut request, &mut is_last), rest);
        assert!(matches!(next, Next::Request));
        assert!(matches!(codec.next(&mut Request::new(None), &mut |_| true).await, Next::End));
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes in whatever pieces: each message is answered, a refusal too, and no more.
    #[test]
    fn each_message_has_one_answer(bytes in client_bytes(), room in 1usize..100) {
        let expected = crate::guard::reference::read(&bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (output, seen) = runtime.block_on(with_sweep(async |sweep| {
            let (near, far) = duplex(room);
            let mut codec = codec(far, LIMITS, &sweep);
            let (mut reading, mut writing) = tokio::io::split(near);
            let client = async {
                // It may close before it has read all.
                let _closed = writing.write_all(&bytes).await;
                // Time to answer: who leaves is answered no more.
                sleep(Duration::from_secs(1)).await;
                let _closed = writing.shutdown().await;
            };
            let mut output = Vec::new();
            let read = async { drop(reading.read_to_end(&mut output).await) };
            let server = async {
                let seen = serve(&mut codec).await;
                codec.discard(&Deadline::clone(&sweep.deadline()), Duration::from_secs(2)).await;
                drop(codec);
                seen
            };
            let (seen, (), ()) = tokio::join!(server, client, read);
            (output, seen)
        }));
        let is_whole = |call: &&String| !["refused", "cut off", "ended early"].iter().any(|other| call.contains(other));
        let whole = seen.calls.iter().filter(is_whole).count();
        prop_assert_eq!(whole, expected.message_ends.len(), "{:?}", seen.calls);
        let finals = String::from_utf8_lossy(&output).replace("HTTP/1.1 100", "").matches("HTTP/1.").count();
        prop_assert_eq!(finals, seen.calls.len(), "{:?}", seen.calls);
        let is_refused = matches!(expected.end, crate::guard::reference::End::Refused);
        prop_assert!(!is_refused || seen.calls.last().is_some_and(|call| call.starts_with("refused")), "{:?}", seen.calls);
    }
}

/// A connection that says that a request is its last, and says this behind it; whether it is waited for when it keeps
/// its side open.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_is_not_waited_for() {
    let check = async |request: &'static str, is_waited_for: bool| {
        let served = dialogue(async |mut client| {
            client.write_all(request.as_bytes()).await.unwrap();
            client
        });
        let served = tokio::time::timeout(Duration::from_secs(3), served).await;
        assert_eq!(served.is_err(), is_waited_for, "{request}");
    };
    check("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false).await;
    check("POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", false).await;
    check("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nand more", true).await;
    check("GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n", true).await;
}
