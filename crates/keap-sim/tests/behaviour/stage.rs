//! A started server, a connected tenant, and short ways to call both of its APIs.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keapsync_keap_sim::{Handle, Options, start};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};

/// How much longer a page of a large app may take than one of a small app.
const SLOWER_MAX: u32 = 5;

/// What a page may take beyond that: pages of a few milliseconds differ by more than their work.
const NOISE: Duration = Duration::from_millis(50);

/// How often each page is timed.
const TIMINGS: usize = 5;

/// How long anything may take before a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(20);

/// The redirect address of the tests' OAuth client; nothing listens there.
pub(crate) const REDIRECT_URI: &str = "http://127.0.0.1:1/callback";

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read(request: reqwest::RequestBuilder) -> Self {
        Self::try_read(request).await.unwrap()
    }

    pub(crate) async fn try_read(request: reqwest::RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
    }
}

/// A server and a connected tenant.
pub(crate) struct Stage {
    pub(crate) server: Handle,
    pub(crate) http: Client,
    pub(crate) tenant: String,
    pub(crate) tokens: Value,
}

/// Options for a test: a free port, no quota, hooks a thousand times faster.
pub(crate) fn options() -> Options {
    Options {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        time_scale: 1000.0,
        no_quota: true,
        ..Options::default()
    }
}

impl Stage {
    /// A tenant without contacts.
    pub(crate) async fn empty() -> Self {
        Self::with(options(), "demo").await
    }

    /// A tenant with generated contacts.
    pub(crate) async fn with_contacts(contacts: u32) -> Self {
        Self::with(Options { contacts, ..options() }, "demo").await
    }

    pub(crate) async fn with(options: Options, tenant: &str) -> Self {
        let server = start(options).await.unwrap();
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut stage = Self { server, http, tenant: tenant.to_owned(), tokens: Value::Null };
        let code = stage.approve(tenant).await;
        let answer = stage.exchange(&code).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        stage.tokens = answer.json();
        stage
    }

    /// Approves as a person would, and takes the code from the redirect.
    pub(crate) async fn approve(&self, tenant: &str) -> String {
        let query = [
            ("client_id", "demo-client"),
            ("redirect_uri", REDIRECT_URI),
            ("response_type", "code"),
            ("scope", "full"),
            ("state", "a state & more"),
            ("tenant", tenant),
            ("auto", "1"),
        ];
        let url = format!("{}/app/oauth/authorize", self.server.url());
        let answer = Answer::read(self.http.get(url).query(&query)).await;
        assert_eq!(answer.status, 302, "{}", answer.text);
        let location = Url::parse(answer.header("location")).unwrap();
        let pairs: Vec<(String, String)> = location.query_pairs().into_owned().collect();
        assert_eq!(pairs[1], ("state".to_owned(), "a state & more".to_owned()));
        assert!(location.as_str().starts_with(REDIRECT_URI));
        pairs[0].1.clone()
    }

    pub(crate) async fn exchange(&self, code: &str) -> Answer {
        let form = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", REDIRECT_URI)];
        self.token(&form).await
    }

    pub(crate) async fn refresh(&self, refresh_token: &str) -> Answer {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }

    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> Answer {
        let url = format!("{}/token", self.server.url());
        Answer::read(self.http.post(url).basic_auth("demo-client", Some("demo-secret")).form(form)).await
    }

    pub(crate) fn access_token(&self) -> &str {
        self.tokens["access_token"].as_str().unwrap()
    }

    /// A call of the API, not sent yet.
    pub(crate) fn call(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/crm/rest{path}", self.server.url());
        self.http.request(method, url).bearer_auth(self.access_token())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::read(self.call(Method::GET, path)).await
    }

    /// The list of contacts with that filter.
    pub(crate) async fn find(&self, filter: &str) -> Answer {
        let query = [("filter", filter), ("fields", "id,given_name,update_time"), ("page_size", "1000")];
        Answer::read(self.call(Method::GET, "/v2/contacts").query(&query)).await
    }

    /// The ids of the contacts that a filter finds.
    pub(crate) async fn found(&self, filter: &str) -> Vec<String> {
        let answer = self.find(filter).await;
        assert_eq!(answer.status, 200, "{filter}: {}", answer.text);
        let contacts = answer.json()["contacts"].as_array().unwrap().clone();
        contacts.iter().map(|contact| contact["id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::read(self.call(Method::POST, path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        Answer::read(self.call(Method::PATCH, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::read(self.call(Method::DELETE, path)).await
    }

    /// Creates a contact and gives its id.
    pub(crate) async fn create(&self, body: &Value) -> String {
        let answer = self.post("/v2/contacts", body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Creates a product at a price in minor units and gives its id.
    pub(crate) async fn product(&self, name: &str, price: u32) -> String {
        let body = json!({
            "name": name, "price": price, "short_description": "Made for a test", "sku": format!("SKU-{name}"),
        });
        let answer = self.post("/v2/products", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// The whole contact by the API.
    pub(crate) async fn contact(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v2/contacts/{id}?fields={}", crate::contract::ALL_FIELDS)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        crate::contract::check("Contact", &answer.json());
        answer.json()
    }

    /// A call of the control API for the tenant.
    pub(crate) async fn sim(&self, method: Method, path: &str, body: &Value) -> Answer {
        let url = format!("{}/sim/tenants/{}{path}", self.server.url(), self.tenant);
        let answer = Answer::read(self.http.request(method, url).json(body)).await;
        assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text);
        answer
    }

    /// What a route of the control API that is no tenant's answers.
    pub(crate) async fn sim_at(&self, path: &str) -> Value {
        Answer::read(self.http.get(format!("{}{path}", self.server.url()))).await.json()
    }

    pub(crate) async fn report(&self) -> Value {
        self.sim(Method::GET, "", &Value::Null).await.json()
    }

    pub(crate) async fn fault(&self, fault: Value) {
        self.sim(Method::POST, "/faults", &fault).await;
    }

    pub(crate) async fn clear_faults(&self) {
        self.sim(Method::DELETE, "/faults", &Value::Null).await;
    }
}

/// A contact that Keap takes.
pub(crate) fn person(given_name: &str) -> Value {
    let email = format!("{}@x.example", given_name.to_lowercase());
    json!({ "given_name": given_name, "email_addresses": [{ "email": email, "field": "EMAIL1" }] })
}

/// An order that Keap takes.
pub(crate) fn order_for(contact_id: &str, items: &Value) -> Value {
    json!({
        "contact_id": contact_id,
        "order_title": "Online Purchase",
        "order_time": "2026-03-01T10:00:00Z",
        "order_type": "ONLINE",
        "order_items": items,
    })
}

/// Asks again and again until there is an answer, within the deadline.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < DEADLINE, "no {what} in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Does what counts by the UTC day, and does it once more where it failed and the day was another at its end than at its
/// beginning: its counts began anew in the middle.
pub(crate) async fn within_a_day<F: Future<Output = ()> + Send + 'static>(part: impl Fn() -> F) {
    let today = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let began_on = today();
    // A task of its own, because a failed assertion ends no more than its task.
    match tokio::spawn(part()).await {
        Err(_) if today() != began_on => part().await,
        outcome => outcome.unwrap(),
    }
}

/// Makes sure that no page of a large app takes much longer than a page of the same length of a small one, which finds out a page
/// that looks at all records. Pages are timed in turns and by the fastest: a slow machine slows all of them down alike, and a
/// stall does not hit every one of a page's turns.
pub(crate) async fn expect_pages_as_fast(large: (&Stage, &[String]), small: (&Stage, &str)) {
    let pages = [&large.1[0], &large.1[large.1.len() / 2], &large.1[large.1.len() - 1]];
    let (mut fastest, mut reference) = ([Duration::MAX; 3], Duration::MAX);
    let time = async |stage: &Stage, page: &str| {
        let started = Instant::now();
        assert_eq!(stage.get(page).await.status, 200, "{page}");
        started.elapsed()
    };
    for _ in 0..TIMINGS {
        reference = reference.min(time(small.0, small.1).await);
        for (fastest, page) in fastest.iter_mut().zip(pages) {
            *fastest = (*fastest).min(time(large.0, page).await);
        }
    }
    let limit = reference * SLOWER_MAX + NOISE;
    assert!(
        fastest.iter().all(|page| *page <= limit),
        "the first, middle and last page take {fastest:?}, one of a small app {reference:?}"
    );
}
