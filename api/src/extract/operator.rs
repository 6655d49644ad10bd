//! Who asks, by an operator's API key. One extractor for each role, so a handler's arguments say who
//! may call it.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{ClientAddress, bearer};
use crate::{
    app::SharedApp,
    error::{Code, Problem},
    operator_keys::Role,
};

/// A key that may at least look.
pub struct Viewer;

/// A key that may at least run sales.
pub struct Operator;

/// A key that may do everything.
pub struct Admin;

impl FromRequestParts<SharedApp> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Viewer, Problem> {
        require(Role::Viewer, parts, app).await.map(|()| Viewer)
    }
}

impl FromRequestParts<SharedApp> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Operator, Problem> {
        require(Role::Operator, parts, app).await.map(|()| Operator)
    }
}

impl FromRequestParts<SharedApp> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Admin, Problem> {
        require(Role::Admin, parts, app).await.map(|()| Admin)
    }
}

async fn require(role: Role, parts: &mut Parts, app: &SharedApp) -> Result<(), Problem> {
    let key = bearer(&parts.headers)?;
    let known = match app.operator_keys.known_role(key) {
        Some(role) => Some(role),
        None => {
            // Only a key that was not seen lately costs the database something; guesses are limited.
            app.rate_limits
                .public_read(ClientAddress::of(parts, app).0)?;
            app.operator_keys.find_role(&app.database.pool, key).await?
        }
    };
    match known {
        None => Err(Problem::unauthorized(
            "there is no such API key, or it was revoked",
        )),
        Some(known) if known >= role => Ok(()),
        Some(_) => {
            let detail = format!("the key needs the role `{}`", role.as_str());
            Err(Problem::new(Code::Forbidden, detail))
        }
    }
}
