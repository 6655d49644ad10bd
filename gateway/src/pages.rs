//! Pages for people: the further step of a charge, and the help.
//!
//! A charge's id is the only thing shown that comes from outside, and it is parsed before.

use std::{fmt::Write, sync::Arc};

use axum::{
    extract::{Path, State},
    response::Html,
};
use chrono::Utc;

use crate::{
    app::SharedApp,
    cards::Cards,
    charges::{Change, Charge, Status},
    error::Refusal,
    routes::parse_charge_id,
};

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>Simulated gateway</title>\
<style>body{font:16px/1.5 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}\
button{font:inherit;padding:.5rem 1rem}form{display:inline}td{padding:.1rem 1rem .1rem 0}</style>";

/// The cards that are known from the start and what they do.
pub async fn show_help() -> Html<String> {
    let mut page = format!(
        "{HEAD}<h1>Simulated gateway</h1><p>It moves no money. These cards do what is written \
         beside them, all others are accepted; <code>PUT /v1/cards/{{number}}</code> tells a card \
         what to do.</p><table>"
    );
    for card in Cards::well_known().all() {
        write!(
            page,
            "<tr><td><code>{}</code></td><td>{}</td></tr>",
            card.number, card.what
        )
        .expect("a String takes all text");
    }
    page.push_str("</table></html>");
    Html(page)
}

/// The page that `next_action` leads to.
pub async fn show_step(
    State(app): State<SharedApp>,
    Path(id): Path<String>,
) -> Result<Html<String>, Refusal> {
    let charge = app.book().charge(parse_charge_id(&id)?)?;
    if charge.status != Status::Pending {
        return Ok(said(&charge));
    }
    let id = charge.id;
    Ok(Html(format!(
        "{HEAD}<h1>Is it you who pays?</h1>\
         <form method=\"post\" action=\"/steps/{id}/complete\"><button>Yes, pay</button></form> \
         <form method=\"post\" action=\"/steps/{id}/fail\"><button>No</button></form></html>"
    )))
}

pub async fn complete_step(
    app: State<SharedApp>,
    id: Path<String>,
) -> Result<Html<String>, Refusal> {
    end_step(app, id, Change::Complete)
}

pub async fn fail_step(app: State<SharedApp>, id: Path<String>) -> Result<Html<String>, Refusal> {
    end_step(app, id, Change::Fail)
}

fn end_step(
    State(app): State<SharedApp>,
    Path(id): Path<String>,
    change: Change,
) -> Result<Html<String>, Refusal> {
    let id = parse_charge_id(&id)?;
    let done = Arc::clone(&app).effect(|book| book.change(id, change, None, Utc::now()))?;
    Ok(said(&done.charge))
}

fn said(charge: &Charge) -> Html<String> {
    Html(format!(
        "{HEAD}<h1>The payment is {}</h1><p>You can close this page.</p></html>",
        charge.status.as_str()
    ))
}
