"""All settings of Velo, each read from the environment; docs/reference.md lists them."""

from datetime import timedelta
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from velo_site import env, queues, state

BASE_DIR = state.BASE_DIR
VELO_VAR = state.folder()

# --- Velo's knobs: name, default, meaning -----------------------------------------------------

# What is served
VELO_PREDICTOR = env.choice("VELO_PREDICTOR", ("embed", "sleep"), "embed")  # sleep: a stand-in
VELO_MODEL_PATH = env.text("VELO_MODEL_PATH")  # model folder; empty: the packaged all-MiniLM-L6-v2
VELO_MODEL_ROOTS = env.folders("VELO_MODEL_ROOTS")  # under which other versions' folders may lie
VELO_MODEL_NAME = env.text("VELO_MODEL_NAME")  # empty: the folder's name
VELO_CUSTOM_MODULES = env.words("VELO_CUSTOM_MODULES", "")  # whose classes may serve as models
VELO_SLEEP_MS = env.integer("VELO_SLEEP_MS", 10)  # the stand-in model's time for one text
VELO_ENGINE = env.choice("VELO_ENGINE", ("auto", "torch", "openvino"), "auto")
VELO_DTYPE = env.choice("VELO_DTYPE", ("auto", "fp32", "bf16"), "auto")
VELO_DEVICE = env.text("VELO_DEVICE", "auto")  # or cpu, cuda, cuda:1, mps
VELO_THREADS = env.integer("VELO_THREADS", 0)  # a worker's, in the model; 0: its share of the cores

# How versions are changed
VELO_WORKER_MEMORY_MB = env.integer("VELO_WORKER_MEMORY_MB", 0)  # of versions in it; 0: no limit
VELO_CHECK_TIMEOUT = env.integer("VELO_CHECK_TIMEOUT", 600, minimum=1)  # seconds, of a version
VELO_ACTIVATION_TIMEOUT = env.integer("VELO_ACTIVATION_TIMEOUT", 600, minimum=1)  # then it failed

# Access
VELO_AUTH = env.choice(
    "VELO_AUTH", ("open", "keys"), "open"
)  # keys: no request without a valid key

VELO_METRICS = env.choice("VELO_METRICS", ("open", "key", "off"), "key")  # key: as VELO_AUTH says

# What is kept of requests
VELO_RECORD_SHARE = env.share("VELO_RECORD_SHARE", 0.01)  # of the answers; errors are all kept
VELO_RECORD_SLOW_MS = env.integer("VELO_RECORD_SLOW_MS", 5000)  # all slower answers; 0: none
VELO_RECORD_DAYS = env.integer("VELO_RECORD_DAYS", 30, minimum=1)
VELO_RECORD_INPUT_DAYS = env.integer("VELO_RECORD_INPUT_DAYS", 0)  # with the input; 0: without

# What a request may ask
VELO_MAX_INPUT_CHARS = env.integer("VELO_MAX_INPUT_CHARS", 200_000, minimum=1)
VELO_MAX_BODY_BYTES = env.integer("VELO_MAX_BODY_BYTES", 2 * 1024 * 1024, minimum=1)
VELO_REQUEST_TIMEOUT = env.seconds("VELO_REQUEST_TIMEOUT", 30)  # then 504, and the job is dropped
VELO_MAX_INPUTS = env.integer("VELO_MAX_INPUTS", 2048, minimum=1)  # of one request; above it 413
VELO_MAX_INPUTS_BYTES = env.integer("VELO_MAX_INPUTS_BYTES", 32 * 1024 * 1024, minimum=1)
VELO_MAX_QUEUE = env.integer("VELO_MAX_QUEUE", 1000, minimum=1)  # inputs waiting; above it 429
VELO_CLIENT_MAX = env.integer("VELO_CLIENT_MAX", 500)  # requests of one address; 0: no limit
VELO_READ_TIMEOUT = env.seconds("VELO_READ_TIMEOUT", 15)  # for the headers, then for the body
VELO_WRITE_TIMEOUT = env.seconds("VELO_WRITE_TIMEOUT", 15)  # a client may take nothing of an answer

# What a job may take
VELO_JOB_TIMEOUT = env.integer("VELO_JOB_TIMEOUT", 20, minimum=1)  # seconds one attempt may run
VELO_RETRY_MAX = env.integer("VELO_RETRY_MAX", 2)  # attempts after the first
VELO_RETRY_INTERVALS = env.integers("VELO_RETRY_INTERVALS", "0,1")  # seconds before each of them
VELO_RESULT_TTL = env.integer("VELO_RESULT_TTL", 60, minimum=1)  # seconds an answer is kept
VELO_FAILURE_TTL = env.integer("VELO_FAILURE_TTL", 7 * 86_400, minimum=1)  # and a failed job

# How batches are formed
VELO_BATCH_MAX = env.integer("VELO_BATCH_MAX", 32, minimum=1)  # texts taken at a time
VELO_BATCH_TOKENS = env.integer("VELO_BATCH_TOKENS", 8192, minimum=1)  # padded, in one model call
VELO_BATCH_WAIT_MS = env.integer("VELO_BATCH_WAIT_MS", 0)  # for a batch to fill; 0: don't wait

# How often a password may be guessed
VELO_LOGIN_ATTEMPTS = env.integer("VELO_LOGIN_ATTEMPTS", 5, minimum=1)  # for a name, by an address
VELO_LOGIN_PAUSE = env.seconds("VELO_LOGIN_PAUSE", 300, minimum=1)  # then this long no more

# How the parts run
VELO_LEASE = env.seconds("VELO_LEASE", 3, minimum=2)  # a worker silent for longer counts as lost
VELO_MAX_CRASHES = env.integer("VELO_MAX_CRASHES", 2, minimum=2)  # a job may be in; then it fails
VELO_CHAOS = env.boolean("VELO_CHAOS", False)  # a worker sent its own id kills itself
VELO_WEB_THREADS = env.integer("VELO_WEB_THREADS", 1000, minimum=1)  # requests inside a process
VELO_WEB_PROCESSES = env.integer("VELO_WEB_PROCESSES", 1, minimum=1)
VELO_STATS_DAYS = env.integer("VELO_STATS_DAYS", 7, minimum=1)  # then latency and dead workers go

VELO_LOG = env.choice("VELO_LOG", ("text", "json"), "text")  # the form of log lines

# Where the parts are
HOST = env.text("HOST", "127.0.0.1")  # the address the web server binds
PORT = env.integer("PORT", 8877, minimum=1)
WORKERS = env.integer("WORKERS", 1)  # how many `manage.py serve` starts
REDIS_URL = env.url("REDIS_URL", f"unix://{state.valkey_socket()}", ("redis", "rediss", "unix"))
DATABASE_URL = env.url(
    "DATABASE_URL", f"sqlite:///{VELO_VAR / 'velo.sqlite3'}", ("sqlite", "postgres", "postgresql")
)
STATIC_ROOT = env.text("STATIC_ROOT", str(VELO_VAR / "static"))

# --- Django -----------------------------------------------------------------------------------

DEBUG = env.boolean("DJANGO_DEBUG", False)

SECRET_KEY = env.text("DJANGO_SECRET_KEY") or state.read_secret_key()
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "DJANGO_SECRET_KEY is not set. Set it to a long random string, or let "
        f"`manage.py setup` make and keep one in {state.secret_key_file()}."
    )

ALLOWED_HOSTS = env.words(
    "DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" if DEBUG else state.read_hosts()
)
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "DJANGO_ALLOWED_HOSTS is not set. Set it to the host names people will use, with commas, "
        "for example velo.example.com,localhost."
    )

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "workers.apps.WorkersConfig",  # before django_rq: its `rqstats` lists the queues of versions
    "django_rq",
    "inference",
]

MIDDLEWARE = [
    "inference.middleware.Callers",
    "django.middleware.security.SecurityMiddleware",
    "velo_site.middleware.AdminSession",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "velo_site.middleware.AdminAuthentication",
    "velo_site.middleware.AdminLogin",
    "velo_site.middleware.AdminMessages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "velo_site.urls"
WSGI_APPLICATION = "velo_site.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": dj_database_url.parse(DATABASE_URL, conn_max_age=60, conn_health_checks=True)
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Several processes write: readers must not block them, and a writer waits for its turn from
    # the start of its transaction instead of failing in the middle.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    DATABASES["default"]["ENGINE"] = "velo_site.postgresql"  # Django's, without endless waits
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 3)
    DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True  # for PgBouncer's transaction mode
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # first: in a pause no password is even looked at
    "django.contrib.auth.backends.ModelBackend",
]
# By name and address together: by the name alone anybody could lock `admin` out for all.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "velo_site.login.address"
AXES_FAILURE_LIMIT = VELO_LOGIN_ATTEMPTS
AXES_COOLOFF_TIME = timedelta(seconds=VELO_LOGIN_PAUSE)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # a pause ends when the page said it would
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_CALLABLE = "velo_site.login.paused"
AXES_SENSITIVE_PARAMETERS = ["username"]  # the log shows the address
AXES_VERBOSE = False
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True
FORMAT_MODULE_PATH = "velo_site.formats"
STATIC_URL = "/static/"
# Whatever the umask: collected by root into an image, they are served by another user.
_static_is_private = Path(STATIC_ROOT).resolve().is_relative_to(VELO_VAR)
FILE_UPLOAD_PERMISSIONS = 0o600 if _static_is_private else 0o644
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700 if _static_is_private else 0o755

# HTTPS is the default of the open internet; `manage.py serve` and docker-compose.yml, which answer
# on plain http://localhost, turn it off.
HTTPS = env.boolean("DJANGO_HTTPS", True)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 30 * 86_400 if HTTPS else 0
SECURE_REDIRECT_EXEMPT = [r"^health/"]  # probes come over plain HTTP
TRUST_PROXY = env.boolean("DJANGO_TRUST_PROXY", False)  # a proxy that sets these headers itself
if TRUST_PROXY:  # and X-Forwarded-For, in inference/callers.py
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CSRF_TRUSTED_ORIGINS = env.words("DJANGO_CSRF_TRUSTED_ORIGINS")
SILENCED_SYSTEM_CHECKS = [
    # HSTS for all subdomains, and its preload list, concern hosts that aren't Velo's.
    "security.W005",
    "security.W021",
    # AxesMiddleware isn't there by this name, but as AdminLogin.
    "axes.W002",
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "json": {
            "()": "pythonjsonlogger.orjson.OrjsonFormatter",
            "fmt": "{asctime}{levelname}{name}{message}{request}",
            "style": "{",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
            "defaults": {"request": ""},
        },
    },
    "filters": {
        "raised": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: record.exc_info is not None,
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": VELO_LOG}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # An answer with a 4xx or 5xx status isn't logged; an uncaught exception is.
    "loggers": {
        "django.request": {"filters": ["raised"]},
        "inference": {"level": "INFO"},
        "workers": {"level": "INFO"},
    },
}

# --- RQ ---------------------------------------------------------------------------------------

RQ_QUEUES = queues.Queues(
    {
        "URL": REDIS_URL,
        "DEFAULT_TIMEOUT": VELO_JOB_TIMEOUT,
        "SERIALIZER": "workers.wire.JSONSerializer",
    }
)
RQ = {
    "WORKER_CLASS": "workers.worker.InferenceWorker",
    "COMMIT_MODE": "auto",  # the default mode defers `enqueue` inside a transaction
}
RQ_SHOW_ADMIN_LINK = False  # its pages let any staff user in; workers/admin/queues.py has its own

# --- REST framework ---------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_PARSER_CLASSES": ["inference.codecs.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["inference.codecs.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "inference.codecs.JSONAlways",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "inference.problems.answer",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Velo",
    "DESCRIPTION": "Models behind HTTP: send a text, get what the model makes of it.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {
        "tryItOutEnabled": True,
        "displayRequestDuration": True,
        "defaultModelsExpandDepth": 0,
    },
    "PREPROCESSING_HOOKS": ["inference.openapi.leave_out_bases"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "inference.openapi.require_bodies",
        "inference.openapi.describe_models",
        "inference.openapi.require_keys",
    ],
    "SORT_OPERATIONS": False,  # as in urls.py: what people come for stands first
}
