/* SPDX-License-Identifier: MIT
 * sftp_ssh.c: from an endpoint to a logged-in connection whose far side has started: TCP, key
 * exchange, host key, login, channel. Nothing secret is sent before the host key is accepted. Time:
 * connect_ms for TCP, HANDSHAKE_FACTOR times that for each of the other steps. */
#include "backends/sftp/sftp_hosts.h"
#include "backends/sftp/sftp_int.h"

#include "base/crypto.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#define HANDSHAKE_FACTOR 5
#define WINDOW (8U * 1024 * 1024)
#define PACKET 32768
#define IDENTITIES_MAX 5 /* servers end a connection after six failures */
#define HOSTS_FILE_MAX (4UL * 1024 * 1024)

static pthread_once_t start_once = PTHREAD_ONCE_INIT;
static int start_result;

static void start(void)
{
    start_result = libssh2_init(0) == 0 ? 0 : -EIO;
}

int ssh_start(void)
{
    pthread_once(&start_once, start);
    return start_result;
}

struct login { /* one login under way */
    struct sftp *s;
    struct op *op;
    struct conn *c;
    const struct endpoint *e;
    uint64_t until_ns;
    struct buf tried; /* "agent (refused), key /x (refused)" */
    bool password;    /* it was tried, in whatever way */
};

/* Repeats a libssh2 call until it is not EAGAIN, within the time of this step. */
static int wait_more(struct login *l, int code)
{
    if (code != LIBSSH2_ERROR_EAGAIN)
        return 0;
    int r = op_check(l->op);
    if (r < 0)
        return r;
    if (clock_now_ns() >= l->until_ns)
        return conn_broken(l->c, l->op, ETIMEDOUT, "no answer in time");
    (void)conn_poll(l->c, 100);
    return 1;
}

#define STEP(l, code, call)                                                                        \
    __extension__({                                                                                \
        int step_r_;                                                                               \
        do                                                                                         \
            (code) = (call);                                                                       \
        while ((step_r_ = wait_more((l), (code))) == 1);                                           \
        step_r_;                                                                                   \
    })

static void begin_step(struct login *l)
{
    l->until_ns = clock_now_ns() + (uint64_t)l->s->connect_ms * HANDSHAKE_FACTOR * NS_PER_MS;
}

/* ---- TCP ---- */

static int unreachable(struct op *op, const struct endpoint *e, const char *why)
{
    int r = err_set(&op->err, EHOSTUNREACH, "sftp %s: %s", e->name, why);
    op->err.retry = ERR_RETRY_SAFE;
    return r;
}

/* r, of a connection that failed, with the step at which it did (err.remote), unless that is known. */
static int at_step(struct login *l, int r, const char *step)
{
    if (r < 0 && !l->op->err.remote[0])
        snprintf(l->op->err.remote, sizeof(l->op->err.remote), "%s", step);
    return r;
}

static int finish_connect(struct op *op, int fd, uint64_t until_ns)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int r = op_check(op), code = 0;
        socklen_t len = sizeof(code);
        if (r < 0)
            return r;
        if (poll(&p, 1, 50) > 0)
            return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0 ? -errno : -code;
        if (clock_now_ns() >= until_ns)
            return -ETIMEDOUT;
    }
}

static void tune(int fd, unsigned stall_ms)
{
    int on = 1, idle = 15, every = 5, count = 3;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    if (stall_ms)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &stall_ms, sizeof(stall_ms));
}

/* 0 and *ret_fd, or -errno of the last address tried (-EINTR: with op->err). */
static int connect_to(struct op *op, const struct addrinfo *a, uint64_t until_ns, int *ret_fd)
{
    CLEANUP_FD int fd =
        socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0)
        return -errno;
    int r = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : -errno;
    if (r == -EINPROGRESS)
        r = finish_connect(op, fd, until_ns);
    if (r == 0)
        *ret_fd = take_fd(&fd);
    return r;
}

static int tcp_connect(struct login *l)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    char port[16];
    snprintf(port, sizeof(port), "%u", l->e->port);
    int r = getaddrinfo(l->e->host, port, &hints, &list);
    if (r != 0) {
        r = unreachable(l->op, l->e, gai_strerror(r));
        return at_step(l, r, "DNS");
    }
    uint64_t until = clock_now_ns() + l->s->connect_ms * NS_PER_MS;
    r = -EHOSTUNREACH;
    for (const struct addrinfo *a = list; a && r < 0 && r != -EINTR; a = a->ai_next)
        r = connect_to(l->op, a, until, &l->c->fd);
    freeaddrinfo(list);
    if (r < 0)
        return l->op->err.code == EINTR ? -EINTR : unreachable(l->op, l->e, strerror(-r));
    tune(l->c->fd, l->s->stall_ms);
    return 0;
}

/* ---- host key ---- */

/* The text of a known_hosts file; "" when it is not there. */
static int read_hosts(struct op *op, const char *path, struct buf *ret)
{
    CLEANUP_FILE FILE *f = fopen(path, "re");
    if (!f && errno == ENOENT)
        return 0;
    if (!f)
        return err_set(&op->err, EACCES, "known_hosts %s: %s", path, strerror(errno));
    for (size_t n = 1; n > 0 && ret->len < HOSTS_FILE_MAX;) {
        n = fread(buf_reserve(ret, 65536), 1, 65535, f);
        ret->len += n;
        ret->data[ret->len] = '\0';
    }
    return 0;
}

/* Every known_hosts file in one text; a NUL ends it early, which hides entries and adds none. */
static int all_hosts(struct sftp *s, struct op *op, struct buf *ret)
{
    if (s->login.known_hosts)
        return read_hosts(op, s->login.known_hosts, ret);
    CLEANUP_FREE char *home = conf_home(), *own = xasprintf("%s/.ssh/known_hosts", home);
    int r = read_hosts(op, own, ret);
    buf_addc(ret, '\n');
    return r < 0 ? r : read_hosts(op, "/etc/ssh/ssh_known_hosts", ret);
}

/* The wanted methods that this libssh2 has, in this order. (It removes unknown ones by itself, but
 * by a memcpy within one buffer.) */
static void prefer_of(LIBSSH2_SESSION *session, int kind, const char *wanted)
{
    CLEANUP_BUF struct buf list = BUF_INIT;
    CLEANUP_FREE char *copy = xstrdup(wanted);
    char *rest = copy;
    const char **have = NULL;
    int n = libssh2_session_supported_algs(session, kind, &have);
    for (char *name; n > 0 && (name = strsep(&rest, ",")) != NULL;)
        for (int i = 0; i < n; i++)
            if (strcmp(have[i], name) == 0)
                buf_addf(&list, "%s%s", list.len ? "," : "", name);
    if (n > 0)
        libssh2_free(session, have);
    if (list.len)
        (void)libssh2_session_method_pref(session, kind, buf_str(&list));
}

/* Asks for the types of key that are known first: another one would look like a stranger. */
static void prefer(struct login *l, const char *hosts)
{
    static const char all[] = "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
                              "ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256,ssh-rsa";
    CLEANUP_BUF struct buf list = BUF_INIT;
    LIBSSH2_SESSION *session = l->c->session;
    hosts_types(hosts, l->e->host, l->e->port, &list);
    if (strstr(buf_str(&list), "ssh-rsa"))
        buf_adds(&list, ",rsa-sha2-512,rsa-sha2-256");
    buf_addf(&list, "%s%s", list.len ? "," : "", all);
    prefer_of(session, LIBSSH2_METHOD_HOSTKEY, buf_str(&list));
    /* Of what both sides have, the fastest that is sound. AES-GCM of libssh2 1.11 is not: it lacks
     * bounds checks (GHSA-c4f7-cvfc-33j7) and leaks a key at each exchange. */
    static const char ciphers[] = "aes128-ctr,aes192-ctr,aes256-ctr";
    static const char macs[] = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,"
                               "hmac-sha2-256,hmac-sha2-512";
    prefer_of(session, LIBSSH2_METHOD_CRYPT_CS, ciphers);
    prefer_of(session, LIBSSH2_METHOD_CRYPT_SC, ciphers);
    prefer_of(session, LIBSSH2_METHOD_MAC_CS, macs);
    prefer_of(session, LIBSSH2_METHOD_MAC_SC, macs);
}

static void fingerprint(const uint8_t sum[SHA256_LEN], struct buf *ret)
{
    buf_adds(ret, "SHA256:");
    base64_add(ret, sum, SHA256_LEN);
    while (ret->len && ret->data[ret->len - 1] == '=')
        buf_truncate(ret, ret->len - 1);
}

static int refuse_host(struct login *l, const struct hosts_verdict *v, const char *print)
{
    const char *file = l->s->login.known_hosts ? l->s->login.known_hosts : "~/.ssh/known_hosts";
    struct err *err = &l->op->err;
    l->c->broken = true;
    if (v->found == HOSTS_REVOKED)
        return err_set(err, EACCES, "sftp %s: its host key %s is revoked (known_hosts line %u)",
                       l->e->name, print, v->line);
    if (v->found == HOSTS_CHANGED)
        return err_set(
            err, EACCES,
            "sftp %s: the host key HAS CHANGED, it is %s now and known_hosts line %u says "
            "otherwise: somebody may be in between. If the server was really given a new "
            "key, remove the line from %s (ssh-keygen -R) and add the new one",
            l->e->name, print, v->line, file);
    return err_set(
        err, EACCES,
        "sftp %s: the host key %s is not known%s: compare it with what the server's owner "
        "says, then add it (ssh-keyscan -p %u %s >> %s) or set host_key_sha256",
        l->e->name, print, v->other_types ? " (keys of other types are)" : "", l->e->port,
        l->e->host, file);
}

static int check_host(struct login *l, const char *hosts)
{
    CLEANUP_BUF struct buf print = BUF_INIT;
    struct hosts_verdict v = HOSTS_VERDICT_INIT;
    uint8_t sum[SHA256_LEN];
    size_t len = 0;
    int type;
    const char *key = libssh2_session_hostkey(l->c->session, &len, &type);
    if (!key)
        return conn_broken(l->c, l->op, EACCES, "the server showed no host key");
    sha256(key, len, sum);
    fingerprint(sum, &print);
    if (l->s->login.pinned) {
        if (memcmp(sum, l->s->login.pin, sizeof(sum)) == 0)
            return 0;
        l->c->broken = true;
        return err_set(
            &l->op->err, EACCES,
            "sftp %s: the host key is %s and not that of host_key_sha256: somebody may be "
            "in between, or the server was given a new key",
            l->e->name, buf_str(&print));
    }
    hosts_check(hosts, l->e->host, l->e->port, key, len, &v);
    return v.found == HOSTS_KNOWN ? 0 : refuse_host(l, &v, buf_str(&print));
}

static int handshake(struct login *l)
{
    CLEANUP_BUF struct buf hosts = BUF_INIT;
    int code, r = l->s->login.pinned ? 0 : all_hosts(l->s, l->op, &hosts);
    if (r < 0)
        return r;
    l->c->session = libssh2_session_init_ex(NULL, NULL, NULL, NULL);
    if (!l->c->session)
        return err_set(&l->op->err, EIO, "sftp %s: out of memory", l->e->name);
    libssh2_session_set_blocking(l->c->session, 0);
    prefer(l, buf_str(&hosts));
    begin_step(l);
    r = STEP(l, code, libssh2_session_handshake(l->c->session, l->c->fd));
    if (r == 0 && code != 0)
        r = conn_broken(l->c, l->op, EIO, "no SSH connection");
    return r < 0 ? r : check_host(l, buf_str(&hosts));
}

/* ---- login ---- */

/* Notes what was tried and did not work; the connection may have been ended by it. */
static void note(struct login *l, const char *what, const char *why)
{
    buf_addf(&l->tried, "%s%s (%s)", l->tried.len ? ", " : "", what, why);
}

/* libssh2 calls it an unverified key, too, when there was no answer. */
static bool is_lost(int code, const char *text)
{
    return code == LIBSSH2_ERROR_SOCKET_DISCONNECT || code == LIBSSH2_ERROR_SOCKET_RECV || code == LIBSSH2_ERROR_SOCKET_SEND ||
           (code == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED && text && strncmp(text, "Waiting for", 11) == 0);
}

/* 1 = logged in, 0 = refused, < 0 = over. */
static int judge(struct login *l, int r, int code, const char *what)
{
    if (r < 0)
        return r;
    if (code == 0)
        return 1;
    char *text = NULL;
    (void)libssh2_session_last_error(l->c->session, &text, NULL, 0);
    if (is_lost(code, text))
        return conn_broken(l->c, l->op, EIO, "ended by the server during the login");
    note(l, what, text && *text ? text : "refused");
    return 0;
}

static int by_agent_identities(struct login *l, LIBSSH2_AGENT *agent)
{
    struct libssh2_agent_publickey *id = NULL, *before = NULL;
    int r = 0, code;
    unsigned n = 0;
    for (; r == 0 && n < IDENTITIES_MAX && libssh2_agent_get_identity(agent, &id, before) == 0;
         n++) {
        r = STEP(l, code, libssh2_agent_userauth(agent, l->s->login.user, id));
        r = judge(l, r, code, "agent");
        before = id;
    }
    if (n == 0)
        note(l, "agent", "it has no keys");
    return r;
}

static int by_agent(struct login *l)
{
    const char *path = l->s->login.agent_socket;
    LIBSSH2_AGENT *agent = libssh2_agent_init(l->c->session);
    int r = 0;
    if (!agent)
        return 0;
    if (path)
        libssh2_agent_set_identity_path(agent, path);
    if (libssh2_agent_connect(agent) != 0 || libssh2_agent_list_identities(agent) != 0)
        note(l, "agent", path ? "it does not answer" : "there is none");
    else
        r = by_agent_identities(l, agent);
    (void)libssh2_agent_disconnect(agent);
    libssh2_agent_free(agent);
    return r;
}

static int by_key(struct login *l, const char *path)
{
    CLEANUP_FREE char *what = xasprintf("key %s", path);
    const char *user = l->s->login.user;
    int code, r;
    if (access(path, R_OK) < 0) {
        note(l, what, strerror(errno));
        return 0;
    }
    r = STEP(l, code,
             libssh2_userauth_publickey_fromfile_ex(l->c->session, user, (unsigned)strlen(user),
                                                    NULL, path, l->s->login.passphrase));
    return judge(l, r, code, what);
}

static int by_default_keys(struct login *l)
{
    static const char *const names[] = {"id_ed25519", "id_ecdsa", "id_rsa"};
    CLEANUP_FREE char *home = conf_home();
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(names) && r == 0; i++) {
        CLEANUP_FREE char *path = xasprintf("%s/.ssh/%s", home, names[i]);
        if (access(path, R_OK) == 0)
            r = by_key(l, path);
    }
    return r;
}

static int by_password(struct login *l)
{
    const char *user = l->s->login.user, *password = l->s->login.password;
    int code;
    l->password = true;
    int r = STEP(l, code,
                 libssh2_userauth_password_ex(l->c->session, user, (unsigned)strlen(user), password,
                                              (unsigned)strlen(password), NULL));
    return judge(l, r, code, "password");
}

/* Answers every question that is not to be echoed with the password (PAM asks so). */
static LIBSSH2_USERAUTH_KBDINT_RESPONSE_FUNC(answer)
{
    const struct login *l = *abstract;
    const char *password = l->s->login.password;
    (void)name, (void)name_len, (void)instruction, (void)instruction_len;
    for (int i = 0; i < num_prompts; i++) {
        const char *text = prompts[i].echo ? "" : password;
        responses[i].text = strdup(text);
        responses[i].length = (unsigned)strlen(text);
    }
}

static int by_questions(struct login *l)
{
    const char *user = l->s->login.user;
    int code;
    l->password = true;
    *libssh2_session_abstract(l->c->session) = l;
    int r = STEP(l, code,
                 libssh2_userauth_keyboard_interactive_ex(l->c->session, user,
                                                          (unsigned)strlen(user), answer));
    *libssh2_session_abstract(l->c->session) = NULL;
    return judge(l, r, code, "keyboard-interactive");
}

static int try_methods(struct login *l, const char *offered)
{
    const struct sftp_login *w = &l->s->login;
    int r = 0;
    if (w->key_file && strstr(offered, "publickey"))
        r = by_key(l, w->key_file);
    if (r == 0 && w->agent && strstr(offered, "publickey"))
        r = by_agent(l);
    if (r == 0 && !w->key_file && !w->password && strstr(offered, "publickey"))
        r = by_default_keys(l);
    if (r == 0 && w->password && strstr(offered, "password"))
        r = by_password(l);
    if (r == 0 && w->password && strstr(offered, "keyboard-interactive"))
        r = by_questions(l);
    return r;
}

static int refused_login(struct login *l, const char *offered)
{
    char pause[64] = "";
    l->c->broken = true;
    if (l->password)
        snprintf(pause, sizeof(pause), ". It is not tried again for %u minutes",
                 (unsigned)(sftp_note_password(l->s, true) / NS_PER_S / 60));
    return err_set(&l->op->err, EACCES,
                   "sftp %s: the login of %s was refused. Tried: %s. The server takes: %s%s",
                   l->e->name, l->s->login.user, l->tried.len ? buf_str(&l->tried) : "nothing",
                   offered, pause);
}

static int authenticate(struct login *l)
{
    const char *user = l->s->login.user;
    LIBSSH2_SESSION *session = l->c->session;
    CLEANUP_FREE char *offered = NULL;
    int r;
    begin_step(l);
    for (;;) {
        char *list = libssh2_userauth_list(session, user, (unsigned)strlen(user));
        if (list) {
            offered = xstrdup(list);
            break;
        }
        if (libssh2_userauth_authenticated(session))
            return 0;
        r = wait_more(l, libssh2_session_last_errno(session));
        if (r <= 0)
            return r < 0 ? r : conn_broken(l->c, l->op, EIO, "no login");
    }
    r = try_methods(l, offered);
    return r == 0 ? refused_login(l, offered) : r < 0 ? r : 0;
}

/* ---- channel ---- */

/* A session of the server's that runs `command`: 1, or 0: it is refused. */
static int open_channel(struct login *l, const char *kind, const char *command)
{
    struct conn *c = l->c;
    int code, r;
    begin_step(l);
    do {
        c->channel = libssh2_channel_open_ex(c->session, "session", 7, WINDOW, PACKET, NULL, 0);
        r = c->channel ? 0 : wait_more(l, libssh2_session_last_errno(c->session));
    } while (r == 1);
    if (r == 0 && !c->channel)
        r = conn_broken(c, l->op, EIO, "no session");
    if (r < 0)
        return r;
    r = STEP(l, code,
             libssh2_channel_process_startup(c->channel, kind, (unsigned)strlen(kind), command,
                                             (unsigned)strlen(command)));
    if (r < 0 || code == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED)
        return r;
    if (code != 0)
        return conn_broken(c, l->op, EIO, "no session");
    r = STEP(
        l, code,
        libssh2_channel_handle_extended_data2(c->channel, LIBSSH2_CHANNEL_EXTENDED_DATA_IGNORE));
    return r < 0 ? r : 1;
}

/* The channel is of no use, the connection is. */
static int close_channel(struct login *l)
{
    int code;
    begin_step(l);
    int r = STEP(l, code, libssh2_channel_free(l->c->channel));
    if (r < 0)
        return r;
    l->c->channel = NULL;
    conn_reset(l->c);
    err_clear(&l->op->err);
    return 0;
}

/* 1: it speaks SFTP; 0: there is none. (sshd starts a subsystem whose program is not there, too.)
 */
static int start_sftp(struct login *l)
{
    l->c->far = &far_sftp;
    int r = open_channel(l, "subsystem", "sftp");
    if (r <= 0)
        return r;
    r = l->c->far->start(l->c, l->op);
    bool ended = r == -EIO && libssh2_channel_eof(l->c->channel) == 1;
    return r == 0 ? 1 : ended ? 0 : r;
}

static int start_commands(struct login *l)
{
    l->c->far = &far_exec;
    int r = open_channel(l, "exec", "exec sh");
    if (r == 0) {
        l->c->broken = true;
        return err_set(&l->op->err, EIO, "sftp %s: the server runs no commands", l->e->name);
    }
    return r < 0 ? r : l->c->far->start(l->c, l->op);
}

/* As `transfer` says. */
static int start_far(struct login *l)
{
    enum sftp_transfer transfer = l->s->transfer;
    int r = transfer == SFTP_BY_COMMANDS ? 0 : start_sftp(l);
    if (r != 0)
        return r < 0 ? r : 0;
    if (transfer == SFTP_BY_SFTP) {
        l->c->broken = true;
        return err_set(&l->op->err, EIO,
                       "sftp %s: the server has no SFTP subsystem (transfer = auto would try "
                       "commands)",
                       l->e->name);
    }
    if (l->c->channel)
        r = close_channel(l);
    if (r == 0)
        r = start_commands(l);
    return r < 0 && transfer == SFTP_BY_ANY
               ? err_prefix(&l->op->err, "there is no SFTP subsystem, and by commands")
               : r;
}

int ssh_connect(struct sftp *s, struct op *op, size_t endpoint, struct conn **ret)
{
    const struct endpoint *e = &s->endpoints[endpoint];
    struct login l = {.s = s, .op = op, .e = e};
    lock_assert_none_held();
    l.c = conn_new(e->name, endpoint, s->stall_ms);
    l.c->root = s->root;
    int r = at_step(&l, tcp_connect(&l), "connect");
    if (r == 0) {
        r = handshake(&l);
        r = at_step(&l, r, r == -EACCES ? "host key" : "connect");
    }
    if (r == 0)
        r = at_step(&l, authenticate(&l), "login");
    if (r == 0 && s->login.password)
        (void)sftp_note_password(s, false);
    if (r == 0)
        r = start_far(&l);
    buf_done(&l.tried);
    if (r < 0) {
        l.c->broken = true;
        conn_free(l.c);
        return r;
    }
    *ret = l.c;
    return 0;
}
