//! Bodies to send: AdmissionReviews that a real API server sent, the larger ones grown to size.

use std::io;
use std::path::Path;

/// Bytes of the smallest bodies, on average: those that come most often.
pub(crate) const SMALL: usize = 1_200;

/// Requests (head and body) whose bodies have about `size` bytes. The small ones are different reviews as they came;
/// a larger one is the creation of a ConfigMap with ever more keys.
pub(crate) fn requests(size: usize) -> io::Result<Vec<Vec<u8>>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/admission.jsonl");
    let corpus = std::fs::read(&corpus).map_err(|error| io::Error::other(format!("{}: {error}", corpus.display())))?;
    let mut reviews = corpus.split_inclusive(|byte| *byte == b'\n');
    if size == SMALL {
        let small: Vec<_> = reviews
            .filter(|review| review.len().abs_diff(SMALL) < SMALL / 6)
            .map(|review| request("/log-request", review))
            .collect();
        return Ok(small);
    }
    let seed = reviews
        .find(|review| contains(review, b"\"kind\":\"ConfigMap\"}") && contains(review, DATA))
        .ok_or_else(|| io::Error::other("the corpus has no ConfigMap with data"))?;
    Ok(vec![request("/log-request", &grow(seed, size))])
}

/// The same events in two shapes.
pub(crate) struct Events {
    /// One request, an EventList.
    pub(crate) list: Vec<Vec<u8>>,
    /// A request for each event, an AdmissionReview with the event for its object.
    pub(crate) single: Vec<Vec<u8>>,
}

/// The events of the largest recorded EventList.
pub(crate) fn events() -> io::Result<Events> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/eventlist.jsonl");
    let corpus = std::fs::read(&corpus).map_err(|error| io::Error::other(format!("{}: {error}", corpus.display())))?;
    let lists = corpus.split_inclusive(|byte| *byte == b'\n');
    let list = lists.max_by_key(|list| list.len()).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(list)?;
    let items = value["items"].as_array().map_or(&[][..], Vec::as_slice);
    let single = items.iter().enumerate().map(|(number, item)| {
        let review = format!(
            "{{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\
             \"request\":{{\"uid\":\"event-{number}\",\"object\":{item}}}}}\n"
        );
        request("/log-request", review.as_bytes())
    });
    Ok(Events { list: vec![request("/audit-events", list)], single: single.collect() })
}

const DATA: &[u8] = b"\"data\":{";

/// Adds keys to the first `data` of a review until it has `size` bytes: configuration text, JSON within a string,
/// base64 and short words by turns, escaped as Go escapes them.
fn grow(seed: &[u8], size: usize) -> Vec<u8> {
    let at = seed.windows(DATA.len()).position(|found| found == DATA).map_or(0, |at| at + DATA.len());
    let (before, after) = seed.split_at(at);
    let mut review = before.to_vec();
    for key in 0.. {
        let value = match key % 4 {
            0 => {
                "server:\\n  listen: 0.0.0.0:8443\\n  workers: 4 # one per core\\n  upstream:\\n  - name: \\\"primary\\\"\\n    url: https://primary.default.svc/?a=1\\u0026b=2\\n    timeout: 30s\\n"
            }
            1 => {
                "{\\\"panels\\\":[{\\\"id\\\":12,\\\"type\\\":\\\"graph\\\",\\\"title\\\":\\\"p99 \\u003c 10 ms\\\",\\\"targets\\\":[{\\\"expr\\\":\\\"sum(rate(http_requests_total{code=~\\\\\\\"5..\\\\\\\"}[5m])) by (pod)\\\",\\\"refId\\\":\\\"A\\\"}]}]}"
            }
            2 => {
                "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJkekNDQVIyZ0F3SUJBZ0lCQURBS0JnZ3Foa2pPUFFRREFqQWpNU0V3SHdZRFZRUUREQmhyTTNNdGMyVnkKZG1WeUxXTmhRREUzTURrd09ERTRNVFV3SGhjTk1qUXdNakk0TURBMU5qVTFXaGNOTXpRd01qSTFNREExTmpVMQpXakFqTVNFd0h3WURWUVFEREJock0zTXRjMlZ5ZG1WeUxXTmhRREUzTURrd09ERTRNVFV3V1RBVEJnY3Foa2pP"
            }
            _ => "enabled",
        };
        let entry = format!("\"component-{key:05}.yaml\":\"{value}\",");
        if review.len() + entry.len() + after.len() > size {
            break;
        }
        review.extend_from_slice(entry.as_bytes());
    }
    review.extend_from_slice(after);
    review
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path}?timeout=1s HTTP/1.1\r\nHost: kube-audit-rest.kube-audit-rest.svc:443\r\n\
         User-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\nAccept: application/json, */*\r\n\
         Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
