//! What is left of a show, counted.

use axum::{body::Bytes, extract::State, response::Response};
use serde::Serialize;
use stampede_shared::store::{seat_status, shows::Show};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    json_bytes,
    public::{not_modified, public, version_etag, watermark},
};
use crate::{
    app::SharedApp,
    error::Problem,
    extract::{ClientAddress, IfNoneMatch, Path},
};

/// What is left of a show.
#[derive(Serialize, ToSchema)]
pub struct Availability {
    /// Of the show's inventory.
    version: i64,
    sections: Vec<SectionAvailability>,
}

/// What is left of a section: seats or places.
#[derive(Serialize, ToSchema)]
pub struct SectionAvailability {
    name: String,
    available: i32,
    held: i32,
    booked: i32,
}

/// Counts what is left in each section.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}/availability", tag = "shows", params(("show_id" = Uuid, Path)),
    responses(
        (status = 200, description = "What is left", body = Availability),
        (status = 304, description = "As it was"),
    )
)]
pub async fn get_availability(
    State(app): State<SharedApp>,
    address: ClientAddress,
    Path(show_id): Path<Uuid>,
    if_none_match: IfNoneMatch,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.public_read(address.0)?;
    let show = app.catalog.show(show_id).await?;
    let version = watermark(&app, show_id).await?.inventory_version;
    let etag = version_etag(version, None);
    if if_none_match.has(&etag) {
        return Ok(not_modified(allowance, etag));
    }
    let availability = match app.availability.get(&show_id) {
        Some((kept, availability)) if kept == version => availability,
        _ => {
            let availability = render(&app, &show, version).await?;
            let kept = (version, availability.clone());
            app.availability.insert(show_id, kept, 1);
            availability
        }
    };
    Ok(public(allowance, etag, &if_none_match, || {
        json_bytes(availability)
    }))
}

/// Counts, once for each version that is asked for.
async fn render(app: &SharedApp, show: &Show, version: i64) -> Result<Bytes, Problem> {
    let counters = seat_status::section_counters(&app.database.pool, show.show_id).await?;
    let sections = counters.into_iter().map(|counters| SectionAvailability {
        name: show.sections[counters.section_no as usize].name.clone(),
        available: counters.available,
        held: counters.held,
        booked: counters.booked,
    });
    let sections = sections.collect();
    let json = serde_json::to_vec(&Availability { version, sections });
    Ok(Bytes::from(json.expect("counters are plain data")))
}
