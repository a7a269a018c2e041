drop function public.find_contacts(text, text, integer);
drop view public.keap_open_conflicts;
drop index public.sync_conflicts_open_idx;
drop view public.keap_current_subscriptions;
drop view public.keap_orders;
