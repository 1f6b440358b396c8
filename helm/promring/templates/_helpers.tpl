{{- define "promring.name" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the release's name %q cannot begin the name of a Service, as the chart has it: use one that begins with a letter and has only lower-case letters, digits and -" .Release.Name) -}}
{{- end -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "promring.allocator" -}}{{ include "promring.name" . }}-allocator{{- end -}}
{{- define "promring.peers" -}}{{ include "promring.name" . }}-allocators{{- end -}}
{{- define "promring.elected" -}}{{ if gt (int .Values.allocator.replicas) 1 }}yes{{ end }}{{- end -}}
{{- define "promring.scraper" -}}{{ include "promring.name" . }}-scraper{{- end -}}

{{- /* What names of the whole cluster begin with. No namespace and no release has a colon, so no two begin alike. */ -}}
{{- define "promring.clusterwide" -}}{{ .Release.Namespace }}:{{ include "promring.allocator" . }}{{- end -}}

{{- /* What selects pods: may never change. */ -}}
{{- define "promring.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "promring.labels" -}}
{{ include "promring.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "promring.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
{{- end -}}

{{- /* A whole number with all its digits: Helm reads those of files as floating-point ones, and writes a million as 1e+06, which
       Kubernetes takes for no whole number. Anything else as it is. */ -}}
{{- define "promring.whole" -}}{{ if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}{{- end -}}

{{- /* The configuration that all processes read. */ -}}
{{- define "promring.config" -}}
{{- $text := include "promring.configText" . -}}
{{- $whole := $text | fromYaml -}}
{{- if ne (dig "allocator" "members" "" $whole) "statefulset" -}}
{{- fail "the chart cannot append its key allocator to the value config: it has to be a single YAML document whose keys begin their lines, with neither ... at its end nor a further document after ---" -}}
{{- end -}}
{{- range $job := $whole.scrape_configs }}{{ range $job.kubernetes_sd_configs -}}
{{- $roles := list "pod" "service" "endpoints" "endpointslice" "node" "ingress" -}}
{{- if not (has .role $roles) -}}
{{- fail (printf "the value config: the role %v in kubernetes_sd_configs of the job %v is none of %s, as they are written" (.role | default "(none)") $job.job_name (join ", " $roles)) -}}
{{- end -}}
{{- end }}{{ end -}}
{{- $own := ternary $whole.scraper (dict) (kindIs "map" $whole.scraper) -}}
{{- $fence := $own.fence_max | default "5m" -}}
{{- $least := add 30 (include "promring.seconds" $fence) | int -}}
{{- $grace := .Values.scraper.terminationGracePeriodSeconds | int -}}
{{- if lt $grace $least -}}
{{- fail (printf "scraper.terminationGracePeriodSeconds is %d and has to be %d at least: 30 s in which a scraper that ends hands its targets over, and scraper.fence_max of the configuration (%v), in which one that leaves sends what is queued before the rest is left behind" $grace $least $fence) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{- /* A duration of the configuration, such as 1m30s, in whole seconds. */ -}}
{{- define "promring.seconds" -}}
{{- $units := dict "ms" 0.001 "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800 "y" 31536000 -}}
{{- $seconds := 0 -}}
{{- range regexFindAll "[0-9]+(ms|[smhdwy])" (toString .) -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (get $units $unit)) -}}
{{- end -}}
{{- ceil $seconds | int -}}
{{- end -}}

{{- /* Fails where a number has more digits than Helm keeps: it reads whole numbers as floating-point ones. */ -}}
{{- define "promring.exact" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value }}{{ include "promring.exact" (dict "path" (printf "%s.%s" $path $key) "value" $value) }}{{ end -}}
{{- else if kindIs "slice" .value -}}
{{- range $at, $value := .value }}{{ include "promring.exact" (dict "path" (printf "%s[%d]" $path $at) "value" $value) }}{{ end -}}
{{- else if and (kindIs "float64" .value) (or (ge .value 9007199254740992.0) (le .value -9007199254740992.0)) -}}
{{- fail (printf "the value %s is a number of more than 15 digits, of which Helm does not keep the last ones: write it into the value config, which is a text" $path) -}}
{{- end -}}
{{- end -}}

{{- define "promring.configText" -}}
{{- include "promring.exact" (dict "path" "remoteWrite" "value" .Values.remoteWrite) -}}
{{- include "promring.exact" (dict "path" "allocator.settings" "value" .Values.allocator.settings) -}}
{{- $text := .Values.config | default (.Files.Get "files/prometheus.yml") -}}
{{- $config := $text | fromYaml -}}
{{- if hasKey $config "Error" -}}
{{- fail (printf "the value config is no YAML: %s" $config.Error) -}}
{{- end -}}
{{- if hasKey $config "allocator" -}}
{{- fail "the value config has the key allocator, which the chart writes: move what is in it to the value allocator.settings" -}}
{{- end -}}
{{- if and .Values.config (or .Values.remoteWrite .Values.externalLabels) -}}
{{- fail "remoteWrite and externalLabels go with the default config only: write remote_write and global.external_labels into the value config" -}}
{{- end -}}
{{- if and .Values.discovery.namespaces (not .Values.config) -}}
{{- $within := printf "      - role: pod\n        namespaces: {names: %s}\n" (toJson .Values.discovery.namespaces) -}}
{{- $text = replace "      - role: pod\n" $within $text -}}
{{- end -}}
{{- with .Values.externalLabels -}}
{{- $labels := printf "  external_labels:\n%s\n\nscrape_configs:\n" (toYaml . | indent 4) -}}
{{- $text = replace "\nscrape_configs:\n" $labels $text -}}
{{- end -}}
{{ $text }}
{{- if .Values.remoteWrite }}
remote_write:
{{ toYaml .Values.remoteWrite | indent 2 }}
{{- end }}
# Written by the chart.
allocator:
  members: statefulset
  statefulset: {{ .Release.Namespace }}/{{ include "promring.scraper" . }}
{{- with .Values.allocator.settings }}
{{- $settings := deepCopy . }}
{{- /* Helm's --set makes a text of a number with a fraction. */}}
{{- if kindIs "string" .rebalance_band }}{{ $_ := set $settings "rebalance_band" (float64 .rebalance_band) }}{{ end }}
{{ toYaml $settings | indent 2 }}
{{- end }}
{{- end -}}

{{- define "promring.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "promring.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "promring.scheme" -}}{{ if .Values.security.tls.secret }}https{{ else }}http{{ end }}{{- end -}}

{{- define "promring.probe" -}}
{{- if .Values.security.tls.secret }}{path: {{ .path }}, port: http, scheme: HTTPS}{{ else }}{path: {{ .path }}, port: http}{{ end }}
{{- end -}}

{{- define "promring.probes" -}}
startupProbe:
  httpGet: {{ include "promring.probe" (merge (dict "path" "/livez") .) }}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {{ include "promring.probe" (merge (dict "path" "/livez") .) }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {{ include "promring.probe" (merge (dict "path" "/readyz") .) }}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end -}}

{{- define "promring.volumes" -}}
- name: config
  configMap:
    name: {{ include "promring.name" . }}
{{- /* A secret's name may hold dots, a volume's may not. */}}
{{- range $at, $name := .Values.secrets }}
- name: secret-{{ $at }}
  secret:
    secretName: {{ $name | quote }}
{{- end }}
{{- with .Values.security.tls.secret }}
- name: tls
  secret:
    secretName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "promring.mounts" -}}
- name: config
  mountPath: /etc/promring
  readOnly: true
{{- range $at, $name := .Values.secrets }}
- name: secret-{{ $at }}
  mountPath: /etc/promring-secrets/{{ $name }}
  readOnly: true
{{- end }}
{{- if .Values.security.tls.secret }}
- name: tls
  mountPath: /etc/promring-tls
  readOnly: true
{{- end }}
{{- end -}}

{{- /* What every server is told. */ -}}
{{- define "promring.serving" -}}
- name: PROMRING_DISABLE_ADMIN
  value: {{ not .Values.security.adminPaths | quote }}
{{- if .Values.security.tls.secret }}
- name: PROMRING_TLS_CERT_FILE
  value: /etc/promring-tls/tls.crt
- name: PROMRING_TLS_KEY_FILE
  value: /etc/promring-tls/tls.key
{{- if .Values.security.tls.mutual }}
- name: PROMRING_TLS_CLIENT_CA_FILE
  value: /etc/promring-tls/ca.crt
{{- end }}
{{- end }}
{{- end -}}

{{- /* How the allocator is reached. */ -}}
{{- define "promring.access" -}}
{{- if .Values.security.tls.secret }}
- name: PROMRING_ALLOCATOR_CA_FILE
  value: /etc/promring-tls/ca.crt
- name: PROMRING_ALLOCATOR_SERVER_NAME
  value: {{ include "promring.allocator" . }}.{{ .Release.Namespace }}.svc
{{- if .Values.security.tls.mutual }}
- name: PROMRING_ALLOCATOR_CERT_FILE
  value: /etc/promring-tls/tls.crt
- name: PROMRING_ALLOCATOR_KEY_FILE
  value: /etc/promring-tls/tls.key
{{- end }}
{{- end }}
{{- end -}}

{{- define "promring.logging" -}}
- name: PROMRING_LOG_LEVEL
  value: {{ .Values.log.level | quote }}
- name: PROMRING_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
{{- end -}}

{{- /* What discovery lists and watches, as JSON: the kinds of objects in the whole cluster (`cluster`), and those in single
       namespaces (`namespaces`: by name), without the former. By the values, or else by what the configuration's
       kubernetes_sd_configs ask for, as far as they go by the pod's own account. */ -}}
{{- define "promring.scopes" -}}
{{- $asked := list -}}
{{- if .Values.discovery.resources -}}
{{- $asked = append $asked (dict "kinds" .Values.discovery.resources "namespaces" list) -}}
{{- else -}}
{{- $text := .Values.config | default (.Files.Get "files/prometheus.yml") -}}
{{- $of := dict "pod" (list "pods") "service" (list "services") "endpoints" (list "endpoints" "services" "pods") "endpointslice" (list "endpointslices" "services" "pods") "node" (list "nodes") "ingress" (list "ingresses") -}}
{{- range $job := ($text | fromYaml).scrape_configs }}{{ range $job.kubernetes_sd_configs }}
{{- if not (or .api_server .kubeconfig_file) -}}
{{- $role := .role | default "" -}}
{{- $kinds := get $of $role | default list -}}
{{- $attach := .attach_metadata | default dict -}}
{{- $pods := has $role (list "pod" "endpoints" "endpointslice") -}}
{{- if and $attach.namespace (ne $role "node") }}{{ $kinds = append $kinds "namespaces" }}{{ end -}}
{{- if and $attach.node $pods }}{{ $kinds = append $kinds "nodes" }}{{ end -}}
{{- if and $attach.deployment $pods }}{{ $kinds = append $kinds "replicasets" }}{{ end -}}
{{- if and $attach.cronjob $pods }}{{ $kinds = append $kinds "jobs" }}{{ end -}}
{{- $within := .namespaces | default dict -}}
{{- $names := $within.names | default list -}}
{{- /* What a number was written as (010, 1e3) is not to be found out any more. */ -}}
{{- range $names }}{{ if not (kindIs "string" .) -}}
{{- fail (printf "the value config: a name in kubernetes_sd_configs.namespaces.names of the job %v is a number or another value that is no text: write it in quotes" $job.job_name) -}}
{{- end }}{{ end -}}
{{- if $within.own_namespace }}{{ $names = append $names $.Release.Namespace }}{{ end -}}
{{- /* A name of no letters is all of them. */ -}}
{{- if has "" $names }}{{ $names = list }}{{ end -}}
{{- $asked = append $asked (dict "kinds" $kinds "namespaces" $names) -}}
{{- end -}}
{{- end }}{{ end -}}
{{- end -}}
{{- $named := .Values.discovery.namespaces -}}
{{- $cluster := list -}}
{{- range $asked }}
{{- $names := $named | default .namespaces -}}
{{- range .kinds }}
{{- $global := has . (list "nodes" "namespaces") -}}
{{- if or (and $global (not $named)) (not (or $global $names)) }}{{ $cluster = append $cluster . }}{{ end -}}
{{- end }}
{{- end }}
{{- $namespaces := dict -}}
{{- range $asked }}
{{- $kinds := without .kinds "nodes" "namespaces" -}}
{{- range $kind := $kinds }}{{ if has $kind $cluster }}{{ $kinds = without $kinds $kind }}{{ end }}{{ end -}}
{{- range $name := $named | default .namespaces }}
{{- $all := concat (get $namespaces $name | default list) $kinds | uniq | sortAlpha -}}
{{- if $all }}{{ $_ := set $namespaces $name $all }}{{ end -}}
{{- end }}
{{- end }}
{{- dict "cluster" ($cluster | uniq | sortAlpha) "namespaces" $namespaces | toJson -}}
{{- end -}}

{{- /* One rule of RBAC for each API group that is needed. */ -}}
{{- define "promring.rules" -}}
{{- $groups := dict "pods" "" "services" "" "endpoints" "" "nodes" "" "namespaces" "" "endpointslices" "discovery.k8s.io" "ingresses" "networking.k8s.io" "replicasets" "apps" "jobs" "batch" -}}
{{- range $group := list "" "apps" "batch" "discovery.k8s.io" "networking.k8s.io" }}
{{- $resources := list }}
{{- range $.resources }}{{ if eq (get $groups .) $group }}{{ $resources = append $resources . }}{{ end }}{{ end }}
{{- if $resources }}
- apiGroups: [{{ $group | quote }}]
  resources: [{{ join ", " $resources }}]
  verbs: [list, watch]
{{- end }}
{{- end }}
{{- end -}}
