alter table public.sync_queue
    add constraint sync_queue_account_id_fkey foreign key (account_id) references public.sync_accounts (account_id);
