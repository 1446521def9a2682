/* What Python calls directly: that which returns a number, a name or a descriptor. */
int lis_stage_count(void);
const char *lis_stage_slug(int stage);
const char *lis_stage_words(int stage);
int lis_plan_check(const char *plan, size_t size, char *ret_reason, size_t reason_size);
int lis_open_beneath(int dir, const char *path, int flags, unsigned mode);
int lis_open_in_root(int root, const char *path, int flags);
int lis_sync_filesystem(int fd);
long long lis_cached_bytes(int fd);
int lis_remove_tree_within(int dir, const char *name, unsigned milliseconds);
int lis_owner_is_of_here(int base, const char *name);
int lis_owner_remove_within(int base, const char *name, unsigned milliseconds);
int lis_landlock_scopes(void);
const char *lis_private_in_proc(size_t number);
