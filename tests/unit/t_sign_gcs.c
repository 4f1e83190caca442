/* SPDX-License-Identifier: MIT
 * V4 signed URLs of Cloud Storage against the test vectors that Google publishes for its clients
 * (googleapis/conformance-tests, storage/v1/v4_signatures.json, with the key made for them). */
#include "backends/sign_gcs.h"
#include "base/cleanup.h"
#include "tests/unit/gcs_key.h"
#include "tests/unit/t.h"

#include <errno.h>

#define EMAIL "test-iam-credentials@dummy-project-id.iam.gserviceaccount.com"

static const struct vector {
    const char *name, *method, *host, *path;
    time_t now;
    unsigned expires_s;
    struct sign_s3_param headers[4], more[2];
    const char *query, *signature;
} vectors[] = {
    {.name = "Simple GET",
     .method = "GET",
     .host = "storage.googleapis.com",
     .path = "/test-bucket/test-object",
     .now = 1549011600,
     .expires_s = 10,
     .query =
         "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-pro"
         "ject-id.iam.gserviceaccount.com%2F20190201%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-D"
         "ate=20190201T090000Z&X-Goog-Expires=10&X-Goog-SignedHeaders=host",
     .signature = "95e6a13d43a1d1962e667f17397f2b80ac9bdd1669210d5e08e0135df9dff4e5"
                  "6113485dbe429ca2266487b9d1796ebdee2d7cf682a6ef3bb9fbb4c351686fba"
                  "90d7b621cf1c4eb1fdf126460dd25fa0837dfdde0a9fd98662ce60844c458448"
                  "fb2b352c203d9969cb74efa4bdb742287744a4f2308afa4af0e0773f55e32e92"
                  "973619249214b97283b2daa14195244444e33f938138d1e5f561088ce8011f49"
                  "86dda33a556412594db7c12fc40e1ff3f1bedeb7a42f5bcda0b9567f17f65855"
                  "f65071fabb88ea12371877f3f77f10e1466fff6ff6973b74a933322ff0949ce3"
                  "57e20abe96c3dd5cfab42c9c83e740a4d32b9e11e146f0eb3404d2e975896f74"},
    {.name = "Simple PUT",
     .method = "PUT",
     .host = "storage.googleapis.com",
     .path = "/test-bucket/test-object",
     .now = 1549011600,
     .expires_s = 10,
     .query =
         "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-pro"
         "ject-id.iam.gserviceaccount.com%2F20190201%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-D"
         "ate=20190201T090000Z&X-Goog-Expires=10&X-Goog-SignedHeaders=host",
     .signature = "8adff1d4285739e31aa68e73767a46bc5511fde377497dbe08481bf5ceb34e29"
                  "cc9a59921748d8ec3dd4085b7e9b7772a952afedfcdaecb3ae8352275b8b7c86"
                  "7f204e3db85076220a3127a8a9589302fc1181eae13b9b7fe41109ec8cdc93c1"
                  "e8bac2d7a0cc32a109ca02d06957211326563ab3d3e678a0ba296e298b5fc5e1"
                  "4593c99d444c94724cc4be97015dbff1dca377b508fa0cb7169195de98d0e4ac"
                  "96c42b918d28c8d92d33e1bd125ce0fb3cd7ad2c45dae65c22628378f6584971"
                  "b8bf3945b26f2611eb651e9b6a8648970c1ecf386bb71327b082e7296c4e1ee2"
                  "fc0bdd8983da80af375c817fb1ad491d0bc22c0f51dba0d66e2cffbc90803e47"},
    {.name = "Vary expiration and timestamp",
     .method = "GET",
     .host = "storage.googleapis.com",
     .path = "/test-bucket/test-object",
     .now = 1551430800,
     .expires_s = 20,
     .query =
         "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-pro"
         "ject-id.iam.gserviceaccount.com%2F20190301%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-D"
         "ate=20190301T090000Z&X-Goog-Expires=20&X-Goog-SignedHeaders=host",
     .signature = "9669ed5b10664dc594c758296580662912cf4bcc5a4ba0b6bf055bcbf6f34eed"
                  "7bdad664f534962174a924741a0c273a4f67bc1847cef20192a6beab44223bd9"
                  "d4fbbd749c407b79997598c30f82ddc269ff47ec09fa3afe74e00616d438df0d"
                  "96a7d8ad0adacfad1dc3286f864d924fe919fb0dce45d3d975c5afe8e13af2db"
                  "9cc37ba77835f92f7669b61e94c6d562196c1274529e76cfff1564cc2cad7d53"
                  "87dc8e12f7a5dfd925685fe92c30b43709eee29fa2f66067472cee5423d1a3a4"
                  "182fe8cea75c9329d181dc6acad7c393cd04f8bf5bc0515127d8ebd65d80c08e"
                  "19ad03316053ea60033fd1b1fd85a69c576415da3bf0a3718d9ea6d03e0d66f0"},
    {.name = "Slashes in object name should not be URL encoded",
     .method = "GET",
     .host = "storage.googleapis.com",
     .path = "/test-bucket/path/with/slashes/under_score/amper%26sand/file.ext",
     .now = 1549011600,
     .expires_s = 10,
     .headers = {{"header/name/with/slash", "should-be-encoded"}},
     .query =
         "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-pro"
         "ject-id.iam.gserviceaccount.com%2F20190201%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-D"
         "ate=20190201T090000Z&X-Goog-Expires=10&X-Goog-SignedHeaders=header%2Fname%2Fwith%2Fs"
         "lash%3Bhost",
     .signature = "2a9a82e84e39f5d2c0d980514db17f8c3dece473c9a5743d54e8453f9811927b"
                  "1b99ce548c534cababd8fa339183e75b410e12e32a4c72f5ff176e95651fabed"
                  "0072e59e7e236eb7e26f52c0ce599db1c47ae07af1a98d20872b6fde23432c0a"
                  "5fcf4fb2dda735169198c80cd5cc51be9904f7e5eef2cc489ff44ac5697c529e"
                  "4b34ac08709a7d2e425619377212c64561ed8b4d2fcb70a26e4f9236f995ab46"
                  "58d240ac85c7a353bae6b2d39d5fc0716afa435a1f6e100db5504612b5e610db"
                  "370623ab4b8eba3c03c98f23dcb4b9ffd518f2212abb2f93649d25385d71603d"
                  "470cff0b7631adb9d0849d38609dedb3097761c8f47ec0d57777bb063611c05b"},
    {.name = "Simple headers",
     .method = "GET",
     .host = "storage.googleapis.com",
     .path = "/test-bucket/test-object",
     .now = 1549011600,
     .expires_s = 10,
     .headers = {{"BAR", "BAR-value"}, {"foo", "foo-value"}},
     .query =
         "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-pro"
         "ject-id.iam.gserviceaccount.com%2F20190201%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-D"
         "ate=20190201T090000Z&X-Goog-Expires=10&X-Goog-SignedHeaders=bar%3Bfoo%3Bhost",
     .signature = "68ecd3b008328ed30d91e2fe37444ed7b9b03f28ed4424555b5161980531ef87"
                  "db1c3a5bc0265aad5640af30f96014c94fb2dba7479c41bfe1c020eb90c0c6d3"
                  "87d4dd09d4a5df8b60ea50eb6b01cdd786a1e37020f5f95eb8f9b6cd3f65a1f8"
                  "a8a65c9fcb61ea662959efd9cd73b683f8d8804ef4d6d9b2852419b013368842"
                  "731359d7f9e6d1139032ceca75d5e67cee5fd0192ea2125e5f2955d38d3d50cf"
                  "116f3a52e6a62de77f6207f5b95aaa1d7d0f8a46de89ea72e7ea30f21286318d"
                  "7eba0142232b0deb3a1dc9e1e812a981c66b5ffda3c6b01a8a9d113155792309"
                  "fd53a3acfd054ca7776e8eec28c26480cd1e3c812f67f91d14217f39a606669d"},
    {.name = "Headers should be trimmed",
     .method = "GET",
     .host = "storage.googleapis.com",
     .path = "/test-bucket/test-object",
     .now = 1549011600,
     .expires_s = 10,
     .headers = {{"collapsed", "abc    def"}, {"leading", "    xyz"}, {"trailing", "abc    "}, {"tabs", "\tabc\t\t\t\tdef\t"}},
     .query =
         "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-pro"
         "ject-id.iam.gserviceaccount.com%2F20190201%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-D"
         "ate=20190201T090000Z&X-Goog-Expires=10&X-Goog-SignedHeaders=collapsed%3Bhost%3Bleadi"
         "ng%3Btabs%3Btrailing",
     .signature = "75d77a3ed2d9b74ff7e1e23b2fd7cc714ad4cc32518c65f3a8197827cd87d302"
                  "623bab990cf2ff3a633bfaae69b6c2d897add78c105aa68411229610421c4239"
                  "579add4aff6bdbd5067a0fd61c3aa0029d7de0f8ae88fa3458fa70f875e841d6"
                  "df9598597d9012b9f848c6857e08f2704ca2f332c71738490ffdda2ed928f934"
                  "0549d7295745725062d28dc1696eab7cb3b88ac4fd445e951423f645d680a60d"
                  "d8033d65b65f4c10286f59f4258dbb2bcf36a76ffdd40574104cbbf0b76901c2"
                  "4df5854f24c42e9192fcedc386d85704fec6a6bad3a5201e1fb6c491a4c43371"
                  "b0913420743580daf3504e99204c6ec894b4d70cd27bc60c3fe2850e8bf3ed22"},
    {.name = "Query Parameter Encoding",
     .method = "GET",
     .host = "storage.googleapis.com",
     .path = "/test-bucket/test-object",
     .now = 1549011600,
     .expires_s = 10,
     .more = {{"aA0\303\251/=%-_.~", "~ ._-%=/\303\2510Aa"}},
     .query =
         "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-pro"
         "ject-id.iam.gserviceaccount.com%2F20190201%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-D"
         "ate=20190201T090000Z&X-Goog-Expires=10&X-Goog-SignedHeaders=host&aA0%C3%A9%2F%3D%25-"
         "_.~=~%20._-%25%3D%2F%C3%A90Aa",
     .signature = "0e4f289c28626a32af95d78f5a0d2c75e5f0bef1cfe5035a532a8185e3ad45b1"
                  "d5e8ad5ae0fb1898420e40a1576479861c6579db7e3b28ef8386160995ac1374"
                  "be85e780ac3dfcc62538e9b2e2c51555950fb6fd0d7ecc509d3ccd9c02af5a6c"
                  "6eb930d21a7383792300eb50a093a597c1da2a290ed56b01844251f8271d0d5e"
                  "61fc3f4273a0c26f80e061c06124d93346ea1c50388e3fe73494c05ac27a54ca"
                  "edc04d1476c276c7602554e4cc1933e41df31ea523f4009e879c92333f98b431"
                  "3755470d7e400bbbde9f5bef36f40b2a1c4a85edbd62aaa84a516e3df055d5d3"
                  "f575b9ea0f1c24f057240852d9e618403e1dd2cd0fa7fc16b071b07322172256"},
    {.name = "Query Parameter Ordering",
     .method = "GET",
     .host = "storage.googleapis.com",
     .path = "/test-bucket/test-object",
     .now = 1549011600,
     .expires_s = 10,
     .more = {{"prefix", "/foo"}, {"X-Goog-Meta-Foo", "bar"}},
     .query =
         "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-pro"
         "ject-id.iam.gserviceaccount.com%2F20190201%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-D"
         "ate=20190201T090000Z&X-Goog-Expires=10&X-Goog-Meta-Foo=bar&X-Goog-SignedHeaders=host"
         "&prefix=%2Ffoo",
     .signature = "a07745e1b3d59b85cbe11aa766df72c22468959e7217615dccb7f030234f66b6"
                  "0b37e480f30725ed51f29816362ca8286c619ebb66448ff1d370be2a4a48aacf"
                  "20d3d2d6200ed17341a5791baf2ee5cd9c2823adacc6264f66c8a54fa887e1bc"
                  "e3c55cf78fb2f6a52618cf09d6f945f63d148052a7b66a75e075ff5065828a80"
                  "6b84bdc49a42399be7483225c720d5e18a6160f79d815f433e7921694fe1d041"
                  "099851793c2581db0e5ca503cfb566e414f900ceede5f9b22030edd32ab20b6f"
                  "7f9fb2afba89098b9364e03397c03a94eac3a140c99979b8786844fb4f6c62c1"
                  "985378939dd1bbaea8e41b9100dda85a27733171cc78d96ee362ea2c3432f4d8"},
    {.name = "Simple GET with non-default hostname",
     .method = "GET",
     .host = "localhost:8080",
     .path = "/test-bucket/test-object",
     .now = 1549011600,
     .expires_s = 10,
     .query =
         "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-pro"
         "ject-id.iam.gserviceaccount.com%2F20190201%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-D"
         "ate=20190201T090000Z&X-Goog-Expires=10&X-Goog-SignedHeaders=host",
     .signature = "66c8c0371ca7d933a0d50f110abdf4fc7e3e379329134f272ebe4aa8100ccd5f"
                  "21cd56ca5ccffae5ed36c8d6840e7cac80c2e7d786cd85b10d0faea34cddf09d"
                  "2e7eb7f5c7c53934e4bf8f5cd654bc3c1b5ee9e3f8ca2189cd225b445bb86656"
                  "3fc4bd0d0b4d116111655611d12ec18f2d854fd7142d9afcc977dbd8f6d0524e"
                  "4170506abf2b119bbe00d17697321d225162fabddb4ddae77781b4f3277a6b6f"
                  "ccfeb47d70b88537e5efb416001274aaeb1535b5aae757c997edc66d03898a5d"
                  "08f767313d018d10992981d00e2a18ed9a6839b8a1ac7b3be1cab2e9511ba91e"
                  "14a786443b59e9f21e1ae74a2c60106180646a764531fbe1fcd9c1e40550e56e"},
};

static void check(const struct vector *v)
{
    struct buf got = BUF_INIT;
    struct err e = ERR_INIT;
    struct http_headers h = {0};
    struct sign_gcs_req r = {.method = v->method,
                             .host = v->host,
                             .path = v->path,
                             .query = v->more,
                             .headers = &h,
                             .email = EMAIL,
                             .private_key = gcs_test_key,
                             .now = v->now,
                             .expires_s = v->expires_s};
    for (size_t i = 0; i < 4 && v->headers[i].name; i++)
        http_headers_add(&h, v->headers[i].name, v->headers[i].value);
    while (r.n_query < 2 && v->more[r.n_query].name)
        r.n_query++;
    CHECK_INT(sign_gcs_presign(&r, &e, &got), 0);
    CLEANUP_FREE char *want = xasprintf("%s&X-Goog-Signature=%s", v->query, v->signature);
    CHECK_STR(got.data, want);
    http_headers_done(&h);
    buf_done(&got);
}

static void test_vectors(void)
{
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
        check(&vectors[i]);
}

static void test_no_key(void)
{
    struct buf got = BUF_INIT;
    struct err e = ERR_INIT;
    struct sign_gcs_req r = {.method = "GET", .host = "h", .path = "/", .email = "e", .private_key = "none"};
    CHECK_INT(sign_gcs_presign(&r, &e, &got), -EINVAL);
    CHECK(strstr(e.text, "private_key"));
    CHECK_INT(got.len, 0);
}

int main(void)
{
    RUN(test_vectors);
    RUN(test_no_key);
    return t_done();
}
