//! Behaviours, written once against a [`World`]: a fake host, and real Envoy.

pub mod agreement;
pub mod cleaning;
pub mod custom;
pub mod directory;
#[path = "../tokens/make.rs"]
#[allow(dead_code, reason = "the scenarios need some of what the tests of tokens make")]
pub mod make;
pub mod quotas;
pub mod refusals;
pub mod snapshot;
pub mod strategies;
pub mod tokens;
pub mod world;

/// Runs every scenario in one world: `run_scenarios!(NativeWorld)`.
#[macro_export]
macro_rules! run_scenarios {
    ($world:ty) => {
        $crate::scenarios::each_scenario!(@tests $world,
            strategies: [
                a_subdomain_names_the_tenant,
                a_custom_domain_names_the_tenant,
                a_path_names_the_tenant,
                a_header_names_the_tenant,
                a_query_names_the_tenant,
                a_stripped_path_comes_with_its_prefix,
                a_stripped_query_keeps_the_rest,
                only_the_authority_names_the_host,
                old_and_new_http_are_one,
            ],
            agreement: [
                consistent_strategies_name_one_tenant,
                unanimous_strategies_all_answer,
                the_first_answer_wins,
                a_request_without_a_tenant_may_pass,
                excluded_paths_need_no_tenant,
            ],
            cleaning: [
                a_clients_own_tenant_headers_never_arrive,
                forwarded_fields_are_the_tenants,
                values_that_are_not_utf8_harm_nobody,
                the_data_model_is_forwarded,
            ],
            custom: [
                a_resolver_names_the_tenant,
                a_resolver_may_name_none,
                a_resolver_has_to_agree,
                a_resolver_that_fails_is_a_directory_that_fails,
                a_resolvers_answer_is_kept_by_its_headers,
            ],
            snapshot: [
                a_snapshot_answers_for_every_name,
                changes_come_by_cursor,
                a_directory_without_a_cursor_is_read_whole_each_time,
                one_broken_record_harms_no_other,
                a_half_read_snapshot_replaces_nothing,
                without_a_young_snapshot_names_are_looked_up,
            ],
            tokens: [
                a_claim_names_the_tenant,
                a_bad_token_is_refused_for_a_reason,
                a_token_and_an_address_have_to_agree,
                a_token_is_found_where_it_was_said_to_be,
                keys_come_from_their_source,
                new_keys_are_taken_at_once,
                a_key_source_that_fails_is_no_answer,
            ],
            quotas: [
                the_nearest_limit_holds,
                a_refusal_says_what_is_so,
                responses_tell_of_quotas_where_wanted,
                what_one_quota_refuses_costs_no_other,
                a_shadow_refuses_nothing,
                the_service_is_warned,
                a_cost_counts_as_it_is,
                a_level_is_given_back,
                the_applications_figure_decides,
                a_figure_that_nobody_knows_is_none,
                the_edge_adds_to_the_applications_figure,
                leased_units_are_what_may_pass,
                without_a_lease_on_error_decides,
            ],
            refusals: [
                every_refusal_has_its_status_code_and_details,
                a_head_request_is_refused_without_a_body,
                grpc_clients_get_a_grpc_status,
                log_fields_show_tenant_and_decision,
                only_the_listed_log_fields_are_written,
            ],
            directory: [
                an_answer_is_kept_for_its_time,
                only_a_404_means_does_not_exist,
                what_is_no_answer_may_be_allowed,
                an_unknown_tenant_is_not_asked_for_again_at_once,
                an_old_answer_serves_while_there_is_none,
                what_is_in_use_is_asked_for_before_it_is_due,
                inline_tenants_win,
                made_up_names_never_reach_the_directory,
                one_question_serves_all_who_wait,
                a_body_waits_for_the_lookup,
                an_upgrade_is_judged_like_any_request,
                callouts_carry_the_trace,
                a_domain_may_be_answered_with_a_whole_tenant,
            ],
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! each_scenario {
    (@tests $world:ty, $($module:ident: [$($name:ident),* $(,)?]),* $(,)?) => {
        $(mod $module {
            $(#[test]
            fn $name() {
                $crate::scenarios::$module::$name::<$world>();
            })*
        })*
    };
}
pub use each_scenario;
