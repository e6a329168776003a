//! Files of Meta's Cloud API: first its Graph API says where a file lies, for some minutes, then it
//! is fetched there; both with the number's access token.

use serde::Deserialize;
use url::Url;

use super::download::{Answer, Download, Failure};

/// What the Graph API says of a file.
#[derive(Debug, Deserialize)]
struct Found {
    url: String,
    #[serde(default)]
    mime_type: Option<String>,
}

/// The file with this id, and its type.
pub(super) async fn open(
    download: &Download,
    graph_url: &str,
    id: &str,
    token: &str,
) -> Result<(Answer, Option<String>), Failure> {
    let mut place = Url::parse(graph_url)
        .map_err(|_| Failure::Final("media.fetch.graph_url is no URL".to_owned()))?;
    place
        .path_segments_mut()
        .map_err(|()| Failure::Final("media.fetch.graph_url is no URL".to_owned()))?
        .pop_if_empty()
        .push(id);
    let said = download.ask(&place, Some(token)).await?.text().await?;
    let found: Found = serde_json::from_slice(&said)
        .map_err(|_| Failure::passing("the Graph API did not say where it is"))?;
    let url = Url::parse(&found.url)
        .map_err(|_| Failure::passing("the Graph API did not say where it is"))?;
    Ok((download.ask(&url, Some(token)).await?, found.mime_type))
}
