//! The route table: every URL of the API on one screen. `/docs` shows the same to a reader.

mod api_keys;
mod availability;
mod bookings;
mod buyers;
mod health;
mod holds;
mod operator_bookings;
mod operator_shows;
mod payment_callbacks;
mod payments;
mod public;
mod queue;
mod requests;
mod seats;
mod shows;
mod webhook_deliveries;
mod webhooks;

use std::sync::Arc;

use axum::{
    Router, body::Bytes, extract::DefaultBodyLimit, http::header, middleware,
    response::IntoResponse,
};
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{
    app::SharedApp,
    error::{Code, Problem, ProblemBody},
    observe::{Durations, observe},
};

/// The most bytes in a body, and in one that creates a show with all its seats.
const BODY_MAX: usize = 16 * 1024;
const SHOW_BODY_MAX: usize = 16 * 1024 * 1024;

/// The most bytes in what a gateway tells.
const CALLBACK_BODY_MAX: usize = 256 * 1024;

#[rustfmt::skip] // one URL a line, and what answers it
fn table() -> OpenApiRouter<SharedApp> {
    let show_creation = OpenApiRouter::new()
        .routes(routes!(operator_shows::create_show))     // POST   /v1/operator/shows
        .layer(DefaultBodyLimit::max(SHOW_BODY_MAX));
    let callbacks = OpenApiRouter::new()
        .routes(routes!(payment_callbacks::receive_callback)) // POST   /v1/payment-callbacks/{gateway}
        .layer(DefaultBodyLimit::max(CALLBACK_BODY_MAX));
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(shows::list_shows))               // GET    /v1/shows
        .routes(routes!(shows::get_show))                 // GET    /v1/shows/{show_id}
        .routes(routes!(availability::get_availability))  // GET    /v1/shows/{show_id}/availability
        .routes(routes!(seats::list_seats))               // GET    /v1/shows/{show_id}/seats
        .routes(routes!(queue::get_queue))                // GET    /v1/shows/{show_id}/queue
        .routes(routes!(requests::create_booking_request, // POST   /v1/shows/{show_id}/requests
                        requests::list_booking_requests)) // GET    /v1/shows/{show_id}/requests
        .routes(routes!(requests::get_booking_request,    // GET    /v1/shows/{show_id}/requests/{request_id}
                        requests::cancel_booking_request))// DELETE /v1/shows/{show_id}/requests/{request_id}
        .routes(routes!(holds::cancel_hold))              // DELETE /v1/shows/{show_id}/holds/{hold_id}
        .routes(routes!(payments::create_payment))        // POST   /v1/shows/{show_id}/holds/{hold_id}/payments
        .routes(routes!(payments::get_payment))           // GET    /v1/shows/{show_id}/payments/{payment_id}
        .routes(routes!(bookings::get_booking))           // GET    /v1/shows/{show_id}/bookings/{booking_id}
        .routes(routes!(bookings::cancel_booking))        // POST   /v1/shows/{show_id}/bookings/{booking_id}/cancel
        .routes(routes!(buyers::create_buyer))            // POST   /v1/buyers
        .merge(callbacks)
        .merge(show_creation)
        .routes(routes!(operator_shows::list_all_shows))  // GET    /v1/operator/shows
        .routes(routes!(operator_shows::change_sale))     // POST   /v1/operator/shows/{show_id}/sale
        .routes(routes!(operator_shows::cancel_show))     // POST   /v1/operator/shows/{show_id}/cancel
        .routes(routes!(operator_bookings::get_any_booking)) // GET    /v1/operator/shows/{show_id}/bookings/{booking_id}
        .routes(routes!(operator_bookings::refund_booking))  // POST   /v1/operator/shows/{show_id}/bookings/{booking_id}/cancel
        .routes(routes!(api_keys::create_api_key,         // POST   /v1/operator/api-keys
                        api_keys::list_api_keys))         // GET    /v1/operator/api-keys
        .routes(routes!(api_keys::revoke_api_key))        // DELETE /v1/operator/api-keys/{api_key_id}
        .routes(routes!(webhooks::create_webhook,         // POST   /v1/operator/webhooks
                        webhooks::list_webhooks))         // GET    /v1/operator/webhooks
        .routes(routes!(webhooks::delete_webhook))        // DELETE /v1/operator/webhooks/{endpoint_id}
        .routes(routes!(webhooks::enable_webhook))        // POST   /v1/operator/webhooks/{endpoint_id}/enable
        .routes(routes!(webhooks::rotate_webhook_secret)) // POST   /v1/operator/webhooks/{endpoint_id}/rotate-secret
        .routes(routes!(webhook_deliveries::list_webhook_deliveries)) // GET    /v1/operator/webhooks/{endpoint_id}/deliveries
        .routes(routes!(webhook_deliveries::redeliver_webhook)) // POST   /v1/operator/webhooks/{endpoint_id}/deliveries/{delivery_id}/redeliver
        .routes(routes!(health::get_livez))               // GET    /livez
        .routes(routes!(health::get_readyz))              // GET    /readyz
        .routes(routes!(health::get_metrics))             // GET    /metrics
        .routes(routes!(health::get_openapi))             // GET    /openapi.json
}

/// The whole API as a service.
pub fn router(app: SharedApp) -> Router {
    let (table, mut openapi) = table().split_for_parts();
    complete(&mut openapi);
    let json = openapi.to_json().expect("the document is plain data");
    app.openapi.get_or_init(|| Bytes::from(json));
    let docs = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    table
        .merge(docs)
        .fallback(refuse_unknown_route)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::new(Durations::default()),
            observe,
        ))
        .with_state(app)
}

async fn refuse_unknown_route() -> impl IntoResponse {
    Problem::new(
        Code::NotFound,
        "there is no such URL; /docs lists those that there are",
    )
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Stampede",
        description = "A fair, durable booking queue. Submit a request, get its position at once, ask \
            what became of it. Errors are RFC 9457 problems."
    ),
    components(schemas(ProblemBody)),
    tags(
        (name = "shows", description = "What is for sale, and how far its line is. Open to all."),
        (name = "requests", description = "A buyer's place in the line, and what became of it."),
        (name = "payments", description = "From a hold to a booking, and back."),
        (name = "operators", description = "Shows, sales and keys. Needs an API key with the role."),
        (name = "webhooks", description = "What integrators are told. Needs an API key with the role `admin`."),
        (name = "health", description = "For the deployment."),
    )
)]
struct Document;

/// Adds what is the same everywhere: the two kinds of credentials, and the problem of every operation.
fn complete(openapi: &mut utoipa::openapi::OpenApi) {
    let components = openapi.components.get_or_insert_default();
    for (name, format, description) in [
        (
            "buyer",
            "JWT",
            "A buyer's token: `sub` is the buyer's id. POST /v1/buyers gives one.",
        ),
        ("operator", "sk_…", "An operator's API key."),
    ] {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format(format)
            .description(Some(description));
        components.add_security_scheme(name, SecurityScheme::Http(bearer.build()));
    }
    for item in openapi.paths.paths.values_mut() {
        let methods = [
            &mut item.get,
            &mut item.post,
            &mut item.put,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in methods.into_iter().flatten() {
            add_problem(operation);
        }
    }
}

fn add_problem(operation: &mut Operation) {
    let schema = Ref::from_schema_name("ProblemBody");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description("A problem: `code` says which")
        .content("application/problem+json", content);
    let responses = &mut operation.responses.responses;
    responses.insert("default".to_owned(), RefOr::T(response.build()));
}

/// A JSON answer that was rendered before.
fn json_bytes(bytes: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (method, path, operation id), read from the table as it stands above.
    fn written() -> Vec<(String, String, String)> {
        let source = include_str!("routes.rs");
        let end = source.find("/// The whole API as a service").unwrap();
        let lines = source[..end]
            .lines()
            .filter(|line| line.contains("// ") && line.contains("::"));
        let entries = lines.filter_map(|line| {
            let (code, url) = line.split_once("//")?;
            let handler = code.trim().trim_end_matches([')', ',', ' ']);
            let handler = handler.rsplit("::").next()?;
            let mut words = url.split_whitespace();
            let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
            path.starts_with('/')
                .then(|| (method, path, handler.to_owned()))
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort();
        entries
    }

    /// The same, from the document.
    fn documented() -> Vec<(String, String, String)> {
        let openapi = table().into_openapi();
        let mut entries = Vec::new();
        for (path, item) in &openapi.paths.paths {
            for (method, operation) in [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ] {
                if let Some(operation) = operation {
                    let id = operation.operation_id.clone().unwrap();
                    entries.push((method.to_owned(), path.clone(), id));
                }
            }
        }
        entries.sort();
        entries
    }

    #[test]
    fn the_document_covers_every_route_and_the_table_says_its_url() {
        assert!(!written().is_empty());
        assert_eq!(written(), documented());
    }

    #[test]
    fn no_route_stands_outside_of_the_table() {
        let source = include_str!("routes.rs");
        let code = source.split("#[cfg(test)]").next().unwrap();
        for way_in in [".route(", ".route_service(", ".nest(", ".nest_service("] {
            assert!(
                !code.contains(way_in),
                "{way_in} adds a route without documenting it"
            );
        }
        let after_the_table = &code[code.find("/// The whole API as a service").unwrap()..];
        let merged = after_the_table.matches(".merge(");
        assert_eq!(merged.count(), 1, "only the pages at /docs are merged");
    }

    #[test]
    fn every_operation_names_its_problem_and_who_may_call_it() {
        let mut openapi = table().into_openapi();
        complete(&mut openapi);
        for (path, item) in &openapi.paths.paths {
            for operation in [&item.get, &item.post, &item.delete].into_iter().flatten() {
                assert!(
                    operation.responses.responses.contains_key("default"),
                    "{path}"
                );
                let credentials = path.starts_with("/v1/operator")
                    || path.contains("/requests")
                    || path.contains("/holds")
                    || path.contains("/payments")
                    || path.contains("/bookings");
                assert_eq!(operation.security.is_some(), credentials, "{path}");
            }
        }
    }
}
