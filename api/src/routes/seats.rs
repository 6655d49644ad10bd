//! The seat map with every seat's status, and its delta.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use stampede_shared::{
    domain::{SectionNo, seat_map::SectionKind},
    store::shows::Show,
};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    json_bytes,
    public::{public, version_etag, watermark},
};
use crate::{
    app::SharedApp,
    error::Problem,
    extract::{ClientAddress, IfNoneMatch, Path, Query},
    seat_board::{SeatList, SeatView},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SeatParameters {
    /// Only seats of the section with this name.
    section: Option<String>,
    /// Only what changed after this version, as label and status.
    since: Option<i64>,
}

/// Shows the seat map with every seat's status, or what changed.
#[utoipa::path(
    get, path = "/v1/shows/{show_id}/seats", tag = "shows",
    params(("show_id" = Uuid, Path), SeatParameters),
    responses(
        (status = 200, description = "The seats; with `since`, label and status of the changed ones",
            body = inline(SeatList<SeatView<'_>>)),
        (status = 304, description = "As it was"),
    )
)]
pub async fn list_seats(
    State(app): State<SharedApp>,
    address: ClientAddress,
    Path(show_id): Path<Uuid>,
    Query(parameters): Query<SeatParameters>,
    if_none_match: IfNoneMatch,
) -> Result<Response, Problem> {
    let allowance = app.rate_limits.public_read(address.0)?;
    let show = app.catalog.show(show_id).await?;
    let map = app.catalog.map(&show).await?;
    let section = match parameters.section.as_deref() {
        None => None,
        Some(name) => Some(seated_section(&show, name)?),
    };
    let version = watermark(&app, show_id).await?.inventory_version;
    let board = app.seat_board.get(show_id, &map, version).await?;
    let etag = version_etag(board.version, section);
    Ok(public(allowance, etag, &if_none_match, || {
        json_bytes(match parameters.since {
            None => board.render(section),
            Some(since) => board.render_changes(section, since),
        })
    }))
}

fn seated_section(show: &Show, name: &str) -> Result<SectionNo, Problem> {
    let mut sections = (0..).zip(&show.sections);
    let found =
        sections.find(|(_, section)| section.name == name && section.kind == SectionKind::Seated);
    let (section, _) = found.ok_or_else(|| Problem::not_found("section with seats"))?;
    Ok(section)
}
