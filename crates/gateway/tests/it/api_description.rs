//! The description of the API, and what is at the root.

use serde_json::{Value, json};

use crate::server::Gateway;

#[test]
fn the_description_is_a_promise() {
    // A changed snapshot is a changed promise: look at it as a user of the API would.
    let mut document = serde_json::to_value(zapbus_gateway::api::document()).unwrap();
    document["info"]["version"] = json!("0.0.0");
    insta::assert_json_snapshot!("openapi", document);
}

#[test]
fn every_operation_is_described_whole() {
    let document = serde_json::to_value(zapbus_gateway::api::document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = std::collections::HashSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{at}: {name} is there twice");
            assert!(operation["summary"].is_string(), "{at}");
            assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{at}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{at}");
            let public = operation["security"] == json!([{}]);
            let is_open = ["/sources", "/media"].iter().any(|open| path.starts_with(open));
            assert_eq!(public, is_open, "{at}");
            if !public {
                for status in ["401", "403", "503"] {
                    assert!(answers.contains_key(status), "{at}: {status}");
                }
            }
            for (status, answer) in answers {
                if status.starts_with('4') || status.starts_with('5') {
                    let reference = format!("#/components/responses/Problem{status}");
                    assert_eq!(answer["$ref"], reference, "{at}");
                }
            }
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
    assert!(document["components"]["securitySchemes"]["token"].is_object());
}

#[tokio::test]
async fn the_description_can_be_browsed_without_another_host() {
    let gateway = Gateway::start(|_| {}).await;
    let plain = |path: &str| gateway.client.get(format!("{}{path}", gateway.url)).send();
    let document: Value = plain("/openapi.json").await.unwrap().json().await.unwrap();
    assert_eq!(document["info"]["title"], "Zapbus");
    for path in ["/docs", "/docs/"] {
        let page = plain(path).await.unwrap();
        assert_eq!(page.status(), 200, "{path}");
        let page = page.text().await.unwrap();
        assert!(page.contains("swagger-ui"), "{path}");
        assert!(!page.contains("https://"), "{page}");
    }
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        let answer = plain(&format!("/docs/{file}")).await.unwrap();
        assert_eq!(answer.status(), 200, "{file}");
    }
    let script = plain("/docs/swagger-initializer.js").await.unwrap().text().await.unwrap();
    assert!(script.contains("/openapi.json"), "{script}");
    assert_eq!(plain("/docs/nothing.js").await.unwrap().status(), 404);
}

#[tokio::test]
async fn the_root_speaks_to_people_and_to_programs() {
    let gateway = Gateway::start(|_| {}).await;
    let ask = |accept: &'static str| {
        gateway.client.get(format!("{}/", gateway.url)).header("accept", accept).send()
    };
    let page = ask("text/html,application/xhtml+xml,*/*;q=0.8").await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("href=\"/docs\""), "{page}");
    assert!(!page.contains("http"), "no other host: {page}");
    let answer: Value = ask("*/*").await.unwrap().json().await.unwrap();
    assert_eq!(answer["status"], 200);
    assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
    assert!(answer["message"].is_string());
}
