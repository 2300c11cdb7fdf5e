{{- /*
The container, for `containers` of any pod:

  containers:
    - {{ include "gatecar.container" .Subcharts.gatecar | nindent 6 | trim }}
  volumes:
    {{- include "gatecar.volumes" .Subcharts.gatecar | nindent 4 }}
*/ -}}
{{- define "gatecar.container" -}}
{{- include "gatecar.validate" . -}}
name: gatecar
image: {{ include "gatecar.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with include "gatecar.env" . | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- range $name, $port := include "gatecar.ports" . | fromYaml }}
  - name: {{ $name }}
    containerPort: {{ $port }}
    protocol: TCP
  {{- end }}
{{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
{{- with get $.Values $probe }}
{{ $probe }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "gatecar.volumeMounts" . | trim }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The same for `initContainers`: it starts before your containers and ends after them (Kubernetes 1.29). */ -}}
{{- define "gatecar.nativeSidecar" -}}
{{ include "gatecar.container" . }}
restartPolicy: Always
{{- end }}

{{- define "gatecar.env" -}}
{{- $allowlists := include "gatecar.allowlists" . | fromYaml -}}
{{- range $name, $text := include "gatecar.settings" . | fromYaml }}
- name: {{ $name }}
  {{- if hasKey $allowlists $name }}
  valueFrom:
    configMapKeyRef:
      name: {{ include "gatecar.allowlistsName" $ }}
      key: {{ $name }}
  {{- else }}
  value: {{ include "gatecar.literal" $text | quote }}
  {{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "gatecar.volumeMounts" -}}
{{- if .Values.serviceAccount.automount }}
- name: gatecar-token
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: gatecar-tls
  mountPath: /etc/gatecar/tls
  readOnly: true
{{- end }}
{{- if .Values.tls.clientCaSecret }}
- name: gatecar-client-ca
  mountPath: /etc/gatecar/client-ca
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The volumes of the container. Its token is valid for an hour, and no other container of the pod mounts it. */ -}}
{{- define "gatecar.volumes" -}}
{{- if .Values.serviceAccount.automount }}
- name: gatecar-token
  projected:
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                apiVersion: v1
                fieldPath: metadata.namespace
{{- end }}
{{- with .Values.tls.existingSecret }}
- name: gatecar-tls
  secret:
    secretName: {{ . | quote }}
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end }}
{{- with .Values.tls.clientCaSecret }}
- name: gatecar-client-ca
  secret:
    secretName: {{ . | quote }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Annotations that roll the pods when an allowlist changes, also for your own pod. */ -}}
{{- define "gatecar.checksum" -}}
gatecar/allowlists: {{ include "gatecar.allowlists" . | sha256sum }}
{{- end }}

{{- define "gatecar.podTemplate" -}}
metadata:
  labels:
    {{- include "gatecar.labels" (dict "root" . "labels" .Values.podLabels) | nindent 4 }}
  annotations:
    {{- $checksum := include "gatecar.checksum" . | fromYaml }}
    {{- mustMerge (dict) $checksum (default dict .Values.podAnnotations) (default dict .Values.commonAnnotations) | toYaml | nindent 4 }}
spec:
  serviceAccountName: {{ include "gatecar.serviceAccountName" . | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "gatecar.terminationGracePeriodSeconds" . }}
  {{- range $field := list "imagePullSecrets" "priorityClassName" "nodeSelector" "tolerations" }}
  {{- with get $.Values $field }}
  {{ $field }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "gatecar.affinity" . }}
  affinity:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ mustMerge (dict) . (dict "labelSelector" (dict "matchLabels" (include "gatecar.selectorLabels" $ | fromYaml))) | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  containers:
    - {{ include "gatecar.container" . | nindent 6 | trim }}
  {{- with include "gatecar.volumes" . | trim }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "gatecar.affinity" -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "gatecar.selectorLabels" . | fromYaml)) -}}
{{- $preset := dict -}}
{{- if eq .Values.podAntiAffinityPreset "hard" -}}
{{- $preset = dict "podAntiAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) -}}
{{- else if eq .Values.podAntiAffinityPreset "soft" -}}
{{- $preset = dict "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) -}}
{{- end -}}
{{- $given := default dict .Values.affinity -}}
{{- if hasKey $given "podAntiAffinity" -}}
{{- $preset = dict -}}
{{- end -}}
{{- with mustMerge (dict) $given $preset -}}
{{- toYaml . -}}
{{- end -}}
{{- end }}
