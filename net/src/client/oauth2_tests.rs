//! Tokens from a real socket.

use std::io::Write as _;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use promring_model::config::{Secret, SecretSource};

type Requests = Arc<Mutex<Vec<String>>>;

/// A token server: what it answers (head without length, body) is made of its request. Each answer waits for `go`.
async fn server(
    go: Arc<tokio::sync::Semaphore>,
    answer: impl Fn(&str) -> (&'static str, String) + Send + 'static,
) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            // The form's last field is its secret or its grant.
            while !request.windows(4).any(|end| end == b"\r\n\r\n") || request.ends_with(b"\r\n\r\n") {
                let mut piece = [0; 4096];
                match socket.read(&mut piece).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend_from_slice(&piece[..read]),
                }
            }
            let request = String::from_utf8(request).unwrap();
            seen.lock().unwrap().push(request.clone());
            go.acquire().await.unwrap().forget();
            let (head, body) = answer(&request);
            let head =
                format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = socket.write_all((head + &body).as_bytes()).await;
        }
    });
    (url, requests)
}

fn always() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(1000))
}

fn tokens(url: &str, secret: SecretSource) -> TokenSource {
    let config = OAuth2 {
        client_id: "my+id".to_owned(),
        client_secret: Some(secret),
        scopes: vec!["a".to_owned(), "b".to_owned()],
        token_url: reqwest::Url::parse(url).unwrap().into(),
        endpoint_params: Default::default(),
        tls: Default::default(),
        proxy: Default::default(),
    };
    TokenSource::new(&config).unwrap()
}

fn inline(secret: &str) -> SecretSource {
    SecretSource::Inline(Secret::new(secret.to_owned()))
}

fn json(body: &str) -> (&'static str, String) {
    ("200 OK\r\nContent-Type: application/json", body.to_owned())
}

#[tokio::test]
async fn id_and_secret_are_escaped_in_the_header() {
    let (url, requests) = server(always(), |_| json(r#"{"access_token":"t"}"#)).await;
    assert_eq!(tokens(&url, inline("s/e c=:%~*")).authorization().await.unwrap(), "Bearer t");
    let requests = requests.lock().unwrap();
    // my%2Bid:s%2Fe+c%3D%3A%25~%2A
    assert!(requests[0].contains("authorization: Basic bXklMkJpZDpzJTJGZStjJTNEJTNBJTI1fiUyQQ==\r\n"));
    assert!(requests[0].ends_with("grant_type=client_credentials&scope=a+b"), "{requests:?}");
}

#[tokio::test]
async fn a_server_that_wants_id_and_secret_in_the_form_is_asked_so_and_from_then_on() {
    let (url, requests) = server(always(), |request| match request.contains("authorization:") {
        true => {
            ("401 Unauthorized\r\nContent-Type: application/json", r#"{"error":"invalid_client"}"#.to_owned())
        }
        false => json(r#"{"access_token":"t","expires_in":-1}"#),
    })
    .await;
    let tokens = tokens(&url, inline("hush"));
    for asked in [2, 3] {
        assert_eq!(tokens.authorization().await.unwrap(), "Bearer t");
        assert_eq!(requests.lock().unwrap().len(), asked);
    }
    assert!(requests.lock().unwrap()[2].ends_with("&client_id=my%2Bid&client_secret=hush"));
}

#[tokio::test]
async fn a_server_that_refuses_either_way_is_told_with_its_error() {
    let refusal = ("400 Bad Request\r\nContent-Type: application/json", r#"{"error":"invalid_scope"}"#);
    let (url, _) = server(always(), move |_| (refusal.0, refusal.1.to_owned())).await;
    let error = tokens(&url, inline("")).authorization().await.unwrap_err().to_string();
    assert!(error.ends_with(": it answered 400 Bad Request: invalid_scope"), "{error}");
}

#[tokio::test]
async fn many_requests_at_once_fetch_one_token() {
    let (url, requests) = server(always(), |_| json(r#"{"access_token":"t","expires_in":3600}"#)).await;
    let tokens = Arc::new(tokens(&url, inline("")));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let tokens = Arc::clone(&tokens);
        waiting.spawn(async move { tokens.authorization().await.unwrap() });
    }
    assert!(waiting.join_all().await.iter().all(|header| header == "Bearer t"));
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_that_comes_after_its_request_has_given_up_serves_the_next() {
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let (url, requests) = server(Arc::clone(&go), |_| json(r#"{"access_token":"t"}"#)).await;
    let tokens = tokens(&url, inline(""));
    let impatient = tokio::time::timeout(Duration::from_millis(1), tokens.authorization()).await;
    assert!(impatient.is_err());
    go.add_permits(1);
    assert_eq!(tokens.authorization().await.unwrap(), "Bearer t");
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_may_be_in_gzip_and_blanks_around_a_token_are_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let serve = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"scope=a+b") {
            request.push(socket.read_u8().await.unwrap());
        }
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(br#"{"access_token":" t "}"#).unwrap();
        let body = packer.finish().unwrap();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: GZip\r\nContent-Length: {}\r\n\r\n", body.len());
        socket.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    let secret = Secret::new("s".to_owned());
    let source = tokens(&url, SecretSource::Inline(secret));
    let authenticator = super::super::auth::Authenticator::OAuth2(source);
    assert_eq!(authenticator.authorization().await.unwrap().unwrap(), "Bearer  t");
    assert!(serve.await.unwrap().contains("accept-encoding: gzip\r\n"));
}

#[test]
fn an_answer_that_unpacks_to_more_than_it_may_have_is_refused() {
    let packed = |size: usize| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(&vec![b' '; size]).unwrap();
        packer.finish().unwrap()
    };
    assert_eq!(unpacked(&packed(TOKEN_BYTES_MAX)).unwrap().len(), TOKEN_BYTES_MAX);
    assert_eq!(unpacked(&packed(TOKEN_BYTES_MAX + 1)), Err(TOO_LARGE.to_owned()));
    assert!(unpacked(b"{}").unwrap_err().contains("cannot be unpacked"));
}

#[tokio::test]
async fn another_secret_fetches_another_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "one").unwrap();
    let (url, requests) = server(always(), |_| json(r#"{"access_token":"t"}"#)).await;
    let tokens = tokens(&url, SecretSource::File(path.clone()));
    for (secret, asked) in [("one", 1), ("one", 1), ("two", 2)] {
        std::fs::write(&path, secret).unwrap();
        tokens.authorization().await.unwrap();
        assert_eq!(requests.lock().unwrap().len(), asked, "{secret}");
    }
}

/// The header and after how many seconds the token is due, as JSON tells them.
fn read(content_type: &str, body: &str) -> Result<(String, Option<u64>), String> {
    let now = Instant::now();
    let token = Answer::read(content_type, body.as_bytes())?.token("", now)?;
    Ok((token.header, token.expires.map(|at| (at - now).as_secs())))
}

#[test]
fn an_answer_is_read_as_go_reads_it() {
    let good = |header: &str, seconds: Option<u64>| Ok((header.to_owned(), seconds));
    for (body, expected) in [
        (r#"{"access_token":"t"}"#, good("Bearer t", None)),
        (r#"{"access_token":"t","expires_in":3600}"#, good("Bearer t", Some(3590))),
        (r#"{"access_token":"t","expires_in":"3600"}"#, good("Bearer t", Some(3590))),
        (r#"{"access_token":"t","expires_in":null}"#, good("Bearer t", None)),
        (r#"{"access_token":"t","expires_in":0}"#, good("Bearer t", None)),
        (r#"{"access_token":"t","expires_in":-1}"#, good("Bearer t", Some(0))),
        (r#"{"access_token":"t","expires_in":5}"#, good("Bearer t", Some(0))),
        (r#"{"access_token":"t","expires_in":4611686018427387904}"#, good("Bearer t", Some(2_147_483_637))),
        (r#"{"access_token":"t","token_type":"bEARER"}"#, good("Bearer t", None)),
        (r#"{"access_token":"t","token_type":"mac"}"#, good("MAC t", None)),
        (r#"{"access_token":"t","token_type":"BASIC"}"#, good("Basic t", None)),
        (r#"{"access_token":"t","token_type":"DPoP"}"#, good("DPoP t", None)),
        (r#"{"access_token":""}"#, Err("server response missing access_token".to_owned())),
        (r#"{"access_token":null}"#, Err("server response missing access_token".to_owned())),
        (r#"{"Access_Token":"t","EXPIRES_IN":60}"#, good("Bearer t", Some(50))),
        (r#"{"access_token":"s","x":[{}],"access_token":"t"}"#, good("Bearer t", None)),
        (
            r#"{"access_token":"t","Access_Token":null,"expires_in":60,"expires_in":null}"#,
            good("Bearer t", Some(50)),
        ),
        (r#"{"access_token":"t","expires_in":1.5}"#, Err("expires_in is no whole number: 1.5".to_owned())),
    ] {
        assert_eq!(read("application/json; charset=utf-8", body), expected, "{body}");
        assert_eq!(read("", body), expected, "{body}");
    }
    for kind in ["application/x-www-form-urlencoded", "TEXT/plain; charset=utf-8"] {
        assert_eq!(
            read(kind, "access_token=t%20u&token_type=bearer&expires_in=60"),
            good("Bearer t u", Some(50))
        );
        assert_eq!(read(kind, "access_token=t&expires_in=soon"), good("Bearer t", None));
        assert!(read(kind, "{}").unwrap_err().contains("missing access_token"));
        for body in ["access_token=T;a=b", "access_token=T&x=%", "access_token=T%2", "access_token=T%zz"] {
            assert_eq!(read(kind, body), Err("its answer is no form".to_owned()), "{body}");
        }
    }
    assert!(read("", "access_token=t").unwrap_err().contains("cannot be read"));
}
