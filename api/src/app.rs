//! What all handlers share: the settings, the database, and the parts that live as long as the process.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use stampede_payments::Till;
use stampede_shared::{
    store::{Database, bookings::Booking, payments::Payment},
    webhooks::WebhookSettings,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    buyer_tokens::BuyerTokens, cache::Cache, callbacks::Callbacks, catalog::Catalog, desk::Desk,
    intake::Intake, lookups::Lookups, operator_keys::OperatorKeys, outcomes::Outcomes,
    rate_limit::RateLimits, seat_board::SeatBoard, settings::Settings, watermarks::Watermarks,
};

/// Of how many shows a cache generation keeps what is left.
const SHOWS_MAX: usize = 2_000;

/// Calls to the gateway at once; more wait their turn.
const DRIVES_MAX: usize = 512;

/// The state of every handler.
pub type SharedApp = Arc<App>;

pub struct App {
    pub settings: Settings,
    pub webhooks: WebhookSettings,
    pub database: Database,
    pub buyer_tokens: BuyerTokens,
    pub operator_keys: OperatorKeys,
    pub rate_limits: RateLimits,
    pub catalog: Catalog,
    pub seat_board: SeatBoard,
    /// What is left of each show as JSON, and at which version.
    pub availability: Cache<Uuid, (i64, Bytes)>,
    pub intake: Intake,
    pub desk: Desk,
    pub till: Till,
    pub payments: Lookups<Payment>,
    pub bookings: Lookups<Booking>,
    pub callbacks: Callbacks,
    /// How many payments this process drives at once.
    pub drives: Arc<Semaphore>,
    pub outcomes: Outcomes,
    pub watermarks: Watermarks,
    pub prometheus: PrometheusHandle,
    /// Set when the server begins to shut down: no request waits any longer.
    pub draining: CancellationToken,
    /// The document at `/openapi.json`, set once when the routes are laid.
    pub openapi: OnceLock<Bytes>,
}

impl App {
    /// Starts the parts; their tasks end at `stop`.
    pub fn start(
        settings: Settings,
        payments: &stampede_payments::Settings,
        webhooks: WebhookSettings,
        database: Database,
        prometheus: PrometheusHandle,
        stop: &CancellationToken,
    ) -> anyhow::Result<SharedApp> {
        let pool = database.pool.clone();
        let watermarks = Watermarks::new(pool.clone());
        Ok(Arc::new(App {
            buyer_tokens: BuyerTokens::new(&settings)?,
            operator_keys: OperatorKeys::new(),
            rate_limits: RateLimits::new(&settings),
            catalog: Catalog::new(pool.clone()),
            seat_board: SeatBoard::new(pool),
            availability: Cache::new(SHOWS_MAX),
            intake: Intake::new(database.clone()),
            desk: Desk::new(database.clone()),
            till: Till::new(database.clone(), payments.connect()?, payments.terms()),
            payments: Lookups::new(database.clone()),
            bookings: Lookups::new(database.clone()),
            callbacks: Callbacks::new(database.clone()),
            drives: Arc::new(Semaphore::new(DRIVES_MAX)),
            outcomes: Outcomes::new(database.clone(), watermarks.clone(), stop.clone()),
            watermarks,
            prometheus,
            draining: CancellationToken::new(),
            openapi: OnceLock::new(),
            settings,
            webhooks,
            database,
        }))
    }

    /// Runs `wait` until it is done, or until the server begins to shut down.
    pub async fn until_draining<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        self.draining.run_until_cancelled(wait).await
    }
}
