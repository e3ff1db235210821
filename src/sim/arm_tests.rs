//! How workspaces come and go.

use reqwest::Method;
use serde_json::{Value, json};

use super::test_client::{ARM, Client, NEWEST};
use super::*;

/// Status, headers of interest and body of an answer to `method` on the workspace `name` and `behind`.
async fn ask(client: &Client, method: Method, name: &str, behind: &str) -> (u16, String, Value) {
    let options = client.running.state().options();
    let url = format!(
        "{}/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Easm/workspaces/{name}{behind}",
        client.running.url(),
        options.subscription_id,
        options.resource_group
    );
    let url = if url.contains('?') { url } else { format!("{url}?api-version=2023-04-01-preview") };
    let body = json!({"location": "westus3", "properties": {}}).to_string();
    // Whichever test was first.
    rustls::crypto::ring::default_provider().install_default().unwrap_or(());
    let token = client.fresh_token(ARM).await;
    let asking = reqwest::Client::new().request(method, &url).bearer_auth(token).body(body);
    let got = asking.send().await.unwrap();
    let link = got.headers().get("azure-asyncoperation").cloned();
    let link = link.map_or(String::new(), |link| link.to_str().unwrap().to_owned());
    let (status, text) = (got.status().as_u16(), got.text().await.unwrap());
    (status, link, serde_json::from_str(&text).unwrap_or_default())
}

fn state(body: &Value) -> (&str, bool) {
    let properties = &body["properties"];
    (
        properties["provisioningState"].as_str().unwrap_or_default(),
        properties["dataPlaneEndpoint"].is_string(),
    )
}

#[tokio::test]
async fn a_workspace_comes_to_be_look_by_look_and_goes_so() {
    let client = Client::new(Options { assets: 10, ..Options::default() }).await;
    let (status, link, body) = ask(&client, Method::PUT, "fresh", "").await;
    assert_eq!((status, state(&body)), (201, ("Accepted", false)));
    assert_eq!(ask(&client, Method::PUT, "fresh", "").await.0, 409, "it is in work");
    let (_, id) = link.split_once("/workspaces/fresh").unwrap();
    assert!(link.starts_with(&client.running.url()), "{link}");
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(ask(&client, Method::GET, "fresh", id).await.2["status"].clone());
    }
    assert_eq!(seen, ["Accepted", "Creating", "Succeeded"]);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (status, _, body) = ask(&client, Method::GET, "fresh", "").await;
        let (state, is_named) = state(&body);
        seen.push((status, state.to_owned(), is_named));
    }
    let there = |is_named| (200, "Succeeded".to_owned(), is_named);
    assert_eq!(seen, [there(false), there(true)]);

    assert_eq!(ask(&client, Method::DELETE, "fresh", "").await.0, 202);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(ask(&client, Method::GET, "fresh", "").await.0);
    }
    assert_eq!(seen, [200, 200, 404, 404]);
    assert_eq!(ask(&client, Method::DELETE, "fresh", "").await.0, 204);
}

#[tokio::test]
async fn what_is_there_stays_as_it_is() {
    let client = Client::new(Options { assets: 10, ..Options::default() }).await;
    let (status, _, body) = ask(&client, Method::PUT, "contoso", "").await;
    assert_eq!((status, &body["error"]["code"]), (409, &"InvalidResourceLocation".into()));
    let (status, _, body) = ask(&client, Method::GET, "contoso", "").await;
    assert_eq!((status, state(&body)), (200, ("Succeeded", true)));
}

#[tokio::test]
async fn every_workspace_has_a_data_plane_and_a_new_one_is_empty_there() {
    let other = OtherWorkspace {
        resource_group: "rg-other".to_owned(),
        name: "second".to_owned(),
        region: "eastus".to_owned(),
    };
    let arm = Arm { workspaces: vec![other], unknown_requests: 2, looks: 0, ..Arm::default() };
    let client = Client::new(Options { assets: 10, arm, ..Options::default() }).await;
    ask(&client, Method::PUT, "fresh", "").await;
    let own = client.list(NEWEST, &[("mark", "*")]);
    let fresh = own.replace("contoso", "fresh");
    assert_eq!(client.get(&fresh).await.status, 404, "it is being created");
    ask(&client, Method::GET, "fresh", "").await;
    let second = own.replace("rg-easm", "RG-other").replace("contoso", "second");
    for (target, statuses, total) in
        [(&own, vec![200], 10), (&second, vec![200], 10), (&fresh, vec![404, 404, 200], 0)]
    {
        for status in statuses {
            let got = client.get(target).await;
            assert_eq!(got.status, status, "{target}");
            if status == 200 {
                let body = got.json();
                let n = body["value"].as_array().unwrap().len();
                assert_eq!((n, &body["totalElements"]), (total, &total.into()), "{target}");
                assert!(body["mark"].is_null(), "{target}");
            }
        }
    }
    assert_eq!(client.get(&second.replace("second", "third")).await.status, 404);
}
