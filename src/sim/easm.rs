//! The data plane: lists of assets and single assets.
//!
//! `call -> workspace? -> api-version? -> list or one -> envelope`
//!
//! Which envelope and which dates an answer has depends on its api-version
//! (API reference, sections 5 and 7). `orderby`, `responseType`,
//! `responseIncludes` and `recentOnly` are taken and have no effect: nothing is
//! known about what they do (section 4). Everything but GET is refused.

use super::{
    State,
    cursor::{Next, Place},
    http::{Answer, Call},
    inventory::Form,
    text::{self, DateForm},
    tokens::{Audience, Stranger, denied},
};

/// Most assets on a page (API reference, section 5, "Page size").
const PAGE_SIZE_MAX: usize = 100;
/// Api-versions from this one on have the new envelope. Compared as text.
const NEW_ENVELOPE_FROM: &str = "2023-03";
/// Where `nextLink` points: never to the host that was called (section 5).
const FOREIGN_HOST: &str = "https://eastus.easm-api-prod.trafficmanager.net";

/// Whether this call is for the data plane.
pub fn is_addressed(call: &Call) -> bool {
    call.segment_is(0, "subscriptions")
        && call.segment_is(2, "resourceGroups")
        && call.segment_is(4, "workspaces")
}

/// Refuses a call without a good token, or of somebody without a role.
pub fn refuse_stranger(state: &State, call: &Call) -> Option<Answer> {
    let stranger = state.tokens().admit(call.bearer(), Audience::Easm).err()?;
    if let Stranger::NoRole(issued) = stranger {
        let action = "Microsoft.Easm/workspaces/assets/read";
        let workspace = call.path.split("/assets").next().unwrap_or(&call.path);
        let message = denied(&issued, action, workspace);
        return Some(Answer::error(403, "AuthorizationFailed", &message));
    }
    let message = "The token is missing, expired, revoked or for another audience or tenant.";
    let challenge = "Bearer error=\"invalid_token\", \
                     authorization_uri=\"https://login.microsoftonline.com/common\"";
    Some(Answer::error(401, "Unauthorized", message).with("www-authenticate", challenge))
}

/// Answers a call whose token is good.
pub fn answer(state: &State, call: &Call) -> Answer {
    let options = state.options();
    let (group, name) = (&call.segments[3], &call.segments[5]);
    let is_ours = call.segment_is(1, &options.subscription_id);
    let Some(workspace) = is_ours.then(|| state.workspaces().serve(group, name)).flatten() else {
        return Answer::error(404, "WorkspaceNotFound", "This workspace does not exist.");
    };
    if call.method != "GET" {
        return Answer::error(405, "MethodNotAllowed", "The simulator only reads.");
    }
    let version = match call.param("api-version") {
        Some(version) if !version.is_empty() => version,
        _ => return Answer::error(400, "BadRequest", "The parameter api-version is required."),
    };
    match call.segments.get(6..).unwrap_or_default() {
        [assets] if assets == "assets" => list(state, call, version, workspace.is_new),
        [assets, id] if assets == "assets" && !workspace.is_new => one(state, id, version),
        _ => Answer::error(404, "NotFound", "The simulator knows no such resource."),
    }
}

fn form(state: &State, version: &str) -> Form {
    let dates = match version {
        "2023-03-01-preview" => DateForm::Compact,
        _ => DateForm::Offset,
    };
    Form { dates, spaced: state.options().whitespace }
}

/// One asset, by readable id, by base64 of it, or by UUID (section 4).
fn one(state: &State, id: &str, version: &str) -> Answer {
    let all = state.inventory();
    let from_base64 = || String::from_utf8(text::base64_decoded(id)?).ok();
    let found = all.find(id).or_else(|| all.find(&from_base64()?));
    match found.filter(|i| !(state.is_shrunk() && all.vanishes(*i))) {
        Some(i) => {
            let mut body = Vec::new();
            all.render(i, form(state, version), &mut body);
            Answer::json(200, body)
        }
        None => Answer::error(404, "NotFound", "This asset does not exist."),
    }
}

/// What an envelope says about its page.
struct Page {
    assets: Vec<u32>,
    total: u64,
    number: u64,
    size: usize,
    /// `None`: no such member.
    mark: Option<Option<String>>,
    is_last: bool,
}

/// A page of assets; none of a workspace that `is_empty`.
fn list(state: &State, call: &Call, version: &str, is_empty: bool) -> Answer {
    let shrunk = state.count_list();
    let filter = call.param("filter").unwrap_or_default();
    let page = match page(state, call, filter, shrunk) {
        Ok(page) if is_empty => {
            Page { assets: Vec::new(), total: 0, mark: Some(None), is_last: true, ..page }
        }
        Ok(page) => page,
        Err(answer) => return *answer,
    };
    let next_link = (!page.is_last).then(|| next_link(state, filter, &page, version));
    let form = form(state, version);
    let mean_bytes = state.options().asset_bytes.max(700) * if form.spaced { 2 } else { 1 };
    let mut out = Vec::with_capacity(page.assets.len() * mean_bytes * 9 / 8 + 2048);
    let mut depth = 0;
    let mut put = |out: &mut Vec<u8>, piece: &str| match form.spaced {
        true => text::push_spaced(out, piece.as_bytes(), &mut depth),
        false => out.extend_from_slice(piece.as_bytes()),
    };
    let items = |out: &mut Vec<u8>, put: &mut dyn FnMut(&mut Vec<u8>, &str)| {
        for (n, i) in page.assets.iter().enumerate() {
            if n > 0 {
                put(out, ",");
            }
            state.inventory().render(*i as usize, form, out);
        }
    };
    let facts = facts(&page, next_link.as_deref(), version);
    // A reader must not count on the members' order, so every other page has
    // the assets first.
    if version >= NEW_ENVELOPE_FROM && page.number.is_multiple_of(2) {
        put(&mut out, &format!("{{{facts},\"value\":["));
        items(&mut out, &mut put);
        put(&mut out, "]}");
    } else {
        let key = if version < NEW_ENVELOPE_FROM { "content" } else { "value" };
        put(&mut out, &format!("{{\"{key}\":["));
        items(&mut out, &mut put);
        put(&mut out, &format!("],{facts}}}"));
    }
    Answer::json(200, out)
}

/// The page that a list call asks for, or why it is refused.
fn page(state: &State, call: &Call, filter: &str, shrunk: bool) -> Result<Page, Box<Answer>> {
    let refuse = |code: &str, message: &str| Box::new(Answer::error(400, code, message));
    let (options, all) = (state.options(), state.inventory());
    let number = |name: &str| match call.param(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<u32>()
            .map(Some)
            .map_err(|_| refuse("BadRequest", &format!("The parameter {name} must be a number."))),
    };
    let (skip, size) = (number("skip")?, number("maxpagesize")?);
    let size = match size.unwrap_or(options.page_size_default) as usize {
        size if (1..=PAGE_SIZE_MAX).contains(&size) => size,
        _ => PAGE_SIZE_MAX,
    };
    let bad_filter = |error: super::filter::Error| {
        let message = format!("filter, position {}: {}", error.position, error.message);
        refuse("BadRequest", &message)
    };

    let Some(mark) = call.param("mark") else {
        let chain = state.chain(filter, None).map_err(bad_filter)?;
        let number = skip.unwrap_or(0);
        let assets = chain.skip(all, number as usize * size, size, shrunk);
        let total = chain.total(shrunk);
        let is_last = (u64::from(number) + 1) * size as u64 >= total;
        return Ok(Page {
            assets,
            total,
            number: u64::from(number),
            size,
            mark: Some(None),
            is_last,
        });
    };
    if skip.is_some() {
        return Err(refuse("BadRequest", "mark and skip exclude each other."));
    }
    let place = match mark {
        "*" => Some(Place::start(size)),
        mark => Place::read(mark, options.seed, filter),
    };
    let Some(place) = place else {
        return Err(refuse("InvalidMark", "The mark is not known, or belongs to another filter."));
    };
    let chain = state.chain(filter, Some(usize::from(place.page_size))).map_err(bad_filter)?;
    let (assets, end) = chain.take(all, place.at as usize, size, shrunk);
    let next = place.next(&chain, all, options, end);
    let mark = match next {
        Next::Place(place) => Some(Some(place.mark(options.seed, filter))),
        Next::Null => Some(None),
        Next::Absent => None,
        Next::Sent => Some(Some(mark.to_owned())),
    };
    let total = chain.total(shrunk);
    let is_last = !matches!(next, Next::Place(_));
    Ok(Page { assets, total, number: u64::from(place.step), size, mark, is_last })
}

/// The members of an envelope beside the assets (section 5, "List envelopes").
fn facts(page: &Page, next_link: Option<&str>, version: &str) -> String {
    let mut out = format!("\"totalElements\":{}", page.total);
    if version < NEW_ENVELOPE_FROM {
        let n_pages = page.total.div_ceil(page.size as u64);
        let (n, number, size) = (page.assets.len(), page.number, page.size);
        let (first, last) = (number == 0, page.is_last);
        out += &format!(
            ",\"totalPages\":{n_pages},\"numberOfElements\":{n},\"number\":{number},\
             \"size\":{size},\"first\":{first},\"last\":{last}"
        );
    }
    match &page.mark {
        Some(Some(mark)) => out += &format!(",\"mark\":\"{mark}\""),
        Some(None) => out += ",\"mark\":null",
        None => {}
    }
    if let Some(link) = next_link {
        out += &format!(",\"nextLink\":\"{link}\"");
    }
    out
}

/// A link that must not be followed: foreign host, older api-version (section 5).
fn next_link(state: &State, filter: &str, page: &Page, version: &str) -> String {
    let options = state.options();
    let older =
        if version < NEW_ENVELOPE_FROM { "2022-04-01-preview" } else { "2022-11-01-preview" };
    format!(
        "{FOREIGN_HOST}/subscriptions/{}/resourceGroups/{}/workspaces/{}/assets?filter={}&skip={}\
         &maxpagesize={}&api-version={older}",
        options.subscription_id,
        text::query_encoded(&options.resource_group),
        text::query_encoded(&options.workspace),
        text::query_encoded(filter),
        page.number + 1,
        page.size
    )
}
