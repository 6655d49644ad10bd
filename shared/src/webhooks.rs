//! What the API and the workers both have to know of webhooks.

/// Where webhooks may go.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[command(next_help_heading = "Webhooks")]
#[group(id = "webhooks")]
pub struct WebhookSettings {
    /// Whether webhooks may go to private addresses, and over plain HTTP
    #[arg(
        long,
        env = "STAMPEDE_WEBHOOK_ALLOW_PRIVATE",
        default_value_t = false,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub webhook_allow_private: bool,
}
